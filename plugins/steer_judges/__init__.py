"""Judges that live elsewhere: language models that see, behind servers, and any reward of steer on another machine."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the rewards; nothing is imported yet."""
    registry.reward(
        "vlm", "steer_judges.vlm:Vlm", summary="asks a vision-language model behind any OpenAI-compatible server"
    )
    registry.reward(
        "unifiedreward", "steer_judges.unifiedreward:UnifiedReward",
        summary="asks UnifiedReward, a judge trained on preferences, behind a server",
    )  # fmt: skip
    registry.reward("http", "steer_judges.http:Http", summary="the score of a server: any reward on another machine")
    registry.command("serve-reward", "steer_judges.serve:serve_reward", summary="serve a reward to other machines")
