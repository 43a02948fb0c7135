"""``steer compare``: the gain of methods at equal cost, by a judge that steers none of them.

``spec`` parses the methods, ``budgets`` makes their costs equal, and ``measure`` runs and judges one of them.
``comparison`` runs all into a resumable ``folder``, ``summary`` computes the results, and ``tables``, ``plots`` and
``report`` show them. ``compare_all`` does everything.
"""
