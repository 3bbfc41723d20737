fn main() -> std::process::ExitCode {
    evt::tool::choose::main(env!("EVT_VERSION"))
}
