//! `jobns`: see [`slurm_jobns::cli`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    slurm_jobns::cli::main()
}
