"""``steer compare``: what methods gain at equal cost, on a measure that none of them was steered by.

``spec`` reads what is compared, ``budgets`` makes it cost the same, ``measure`` runs and judges it, ``comparison`` does
so for all of it into a ``folder`` that can be resumed, ``summary`` says what came out, and ``tables``, ``plots``
and ``report`` show it.
"""
