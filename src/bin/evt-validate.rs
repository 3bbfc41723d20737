fn main() -> std::process::ExitCode {
    evt::cli::main::<evt::tool::validate::Args>()
}
