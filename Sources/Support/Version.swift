/// The version of this project, as `--version` shows it.
public let zcopyVersion = "0.2.0"
