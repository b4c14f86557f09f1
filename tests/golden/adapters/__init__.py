"""One module per engine: COMPONENTS maps a case's component to a function (case) -> {output: tensor}."""
