//! `jobns-remover`: see [`namespace_linux::remover`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    namespace_linux::remover::main()
}
