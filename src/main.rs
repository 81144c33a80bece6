//! `jobns`: see [`namespace_linux::cli`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    namespace_linux::cli::main()
}
