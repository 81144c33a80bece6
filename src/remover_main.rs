//! `jobns-remover`: see [`slurm_jobns::remover`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    slurm_jobns::remover::main()
}
