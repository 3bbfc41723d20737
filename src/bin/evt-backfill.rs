fn main() -> std::process::ExitCode {
    evt::tool::main::<evt::tool::backfill::Args>()
}
