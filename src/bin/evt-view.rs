fn main() -> std::process::ExitCode {
    evt::cli::main::<evt::tool::view::Args>()
}
