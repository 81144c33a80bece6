//! Chooses the version of Slurm that the plugin is built for: a plugin is loaded only by the very
//! version whose number it carries.

use std::{env, fs};

const HEADER: &str = "/usr/include/slurm/slurm_version.h";
/// Used when neither SLURM_VERSION nor Slurm's headers say otherwise.
const NEWEST_KNOWN: &str = "26.05.5";

fn main() {
    println!("cargo:rerun-if-env-changed=SLURM_VERSION");
    // Cargo takes a file that is missing for changed, at every build.
    if fs::exists(HEADER).unwrap_or(false) {
        println!("cargo:rerun-if-changed={HEADER}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let (version, from) = match env::var("SLURM_VERSION") {
        Ok(version) if !version.is_empty() => (version, "SLURM_VERSION"),
        _ => match fs::read_to_string(HEADER).ok().and_then(|text| from_header(&text)) {
            Some(version) => (version, HEADER),
            None => (NEWEST_KNOWN.to_owned(), "the newest known"),
        },
    };
    let parts: Vec<u32> =
        version.split(['.', '-']).take(3).map_while(|part| part.parse().ok().filter(|number| *number < 256)).collect();
    let [major, minor, micro] = parts.as_slice() else {
        panic!("Slurm's version from {from} is {version:?}; it must be like 26.05.5");
    };
    // SLURM_VERSION_NUM of slurm/slurm_version.h.
    println!("cargo:rustc-env=JOBNS_SLURM_MAJOR={major}");
    println!("cargo:rustc-env=JOBNS_SLURM_MINOR={minor}");
    println!("cargo:rustc-env=JOBNS_SLURM_MICRO={micro}");
    let name = if env::var_os("CARGO_FEATURE_TMPFS").is_some() { "tmpfs" } else { "linux" };
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,namespace_{name}.so");
    link_unwinder_statically();
}

/// The unwinder (for the panics that slurm/entry.rs catches) goes into the plugin. Else every slurmstepd
/// would load libgcc_s.so.1 for it, which it does not do otherwise, and which takes longer than to load
/// the plugin itself. The standard library asks for `-lgcc_s`; this answers with the static twin.
fn link_unwinder_statically() {
    let directory = format!("{}/unwinder", env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::create_dir_all(&directory).expect("OUT_DIR can be written to");
    fs::write(format!("{directory}/libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n").expect("OUT_DIR can be written to");
    println!("cargo:rustc-cdylib-link-arg=-L{directory}");
}

/// `#define SLURM_VERSION_NUMBER 0x1a0505`
fn from_header(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("#define SLURM_VERSION_NUMBER"))?;
    let number = line.split_whitespace().nth(2)?.strip_prefix("0x")?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some(format!("{}.{}.{}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff))
}
