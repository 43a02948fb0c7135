"""The built-in commands; this module imports nothing."""

BUILT_IN = {
    "bench": ("steer.cli.bench:bench", "Run a published benchmark: render, judge, summarize."),
    "check": ("steer.cli.check:check", "Check whether a plugin fulfills its contract."),
    "compare": ("steer.cli.compare:compare", "Compare methods at equal cost by a held-out judge."),
    "doctor": ("steer.cli.doctor:doctor", "Check the installation and what this machine can run."),
    "download": ("steer.cli.download:download", "Fetch the weights of rewards, previews and models."),
    "finish": ("steer.cli.finish:finish", "Render in full the drafts that you picked."),
    "gallery": ("steer.cli.gallery:gallery", "Build the page of what was rendered."),
    "generate": ("steer.cli.generate:generate", "Render prompts, steered or not."),
    "measure": ("steer.cli.measure:measure", "Measure folders: FID, KID, CMMD, CLIP, LPIPS, IoU, accuracy, dist-n."),
    "new": ("steer.cli.new:new", "Start a plugin package of your own."),
    "plugins": ("steer.cli.plugins:plugins", "List plugins, or show the options of one."),
    "render": ("steer.cli.render:render", "Render prompt files: resumable, on one machine or many."),
    "replay": ("steer.cli.replay:replay", "Reproduce an image from the recipe in its PNG."),
    "rewards": ("steer.cli.rewards:rewards", "Compare rewards on the embedded evaluation scenes."),
    "score": ("steer.cli.score:score", "Score image files."),
}
"""Subcommands: their modules, imported at first use, and their summaries."""
