fn main() -> std::process::ExitCode {
    evt_launcher::main(env!("CARGO_BIN_NAME"), env!("EVT_VERSION"))
}
