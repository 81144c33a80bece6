//! `make abi-check SLURM_SRC=DIR`: the offsets, numbers and prototypes that the plugin relies on
//! (src/slurm/layout.rs, src/slurm/imports.rs), beside those of the headers of a configured Slurm
//! source tree. For packagers, before a plugin is built or stamped for a new release.
//!
//! With a cross compiler in `CC`, what the plugin relies on on that architecture is compared.
//!
//! Without `SLURM_SRC` the test uses headers that it writes itself: this shows that the comparison finds
//! differences, and nothing about Slurm. What Slurm's own headers said is in tests/abi_check.headers.

use slurm_jobns::slurm::layout;
use slurm_jobns::slurm::layout::{NsFdMap, StepId, conf, gres_job, gres_state, slurm_conf, step};
use slurm_jobns::slurm_version::{RELEASE, RELEASES, VERSION, Version, release};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// The C compiler, and the bytes of a mutex on the architecture that it compiles for.
#[derive(Debug)]
struct Compiler {
    program: OsString,
    architecture: String,
    mutex: usize,
}

impl Compiler {
    /// That in `CC`.
    fn new() -> Result<Self, String> {
        let program = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(&program)
            .arg("-dumpmachine")
            .output()
            .map_err(|error| format!("the C compiler {}: {error}", program.display()))?;
        let machine = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let architecture = machine.split('-').next().unwrap_or_default().to_owned();
        let mutex = layout::mutex_on(&architecture)
            .ok_or_else(|| format!("{} compiles for {machine:?}, where there is no plugin", program.display()))?;
        Ok(Self { program, architecture, mutex })
    }
}

/// What a plugin for this version takes for granted where a mutex has so many bytes. None: it does not
/// know, and does without.
fn ours(mutex: usize, version: Version) -> BTreeMap<String, Option<u64>> {
    let release = release(version);
    let offsets = [
        ("size of pthread_mutex_t", mutex),
        ("step::ALIAS_LIST", step::ALIAS_LIST.with_mutex(mutex)),
        ("step::STEP_ID", step::STEP_ID.with_mutex(mutex)),
        ("step::NNODES", step::NNODES.with_mutex(mutex)),
        ("step::HET_JOB_ID", step::HET_JOB_ID.with_mutex(mutex)),
        ("step::JOB_MEM", step::JOB_MEM.with_mutex(mutex)),
        ("step::CPUS", step::CPUS.with_mutex(mutex)),
        ("step::CWD", step::CWD.with_mutex(mutex)),
        ("step::UID", step::UID.with_mutex(mutex)),
        ("step::USER_NAME", step::USER_NAME.with_mutex(mutex)),
        ("step::GID", step::GID.with_mutex(mutex)),
        ("step::JOB_ALLOC_CORES", step::JOB_ALLOC_CORES.with_mutex(mutex)),
        ("step::JOB_GRES_LIST", step::JOB_GRES_LIST.with_mutex(mutex)),
        ("width of nnodes", 4),
        ("width of het_job_id", 4),
        ("width of job_mem", 8),
        ("width of cpus", 2),
        ("conf::HOSTNAME", conf::HOSTNAME),
        ("conf::NODE_NAME", conf::NODE_NAME),
        ("conf::CONFFILE", conf::CONFFILE),
        ("conf::SPOOLDIR", conf::SPOOLDIR),
        ("slurm_conf::DEBUG_FLAGS", slurm_conf::DEBUG_FLAGS),
        ("slurm_conf::SLURM_USER_ID", release.slurm_user_id),
        ("StepId::sluid", offset_of!(StepId, sluid)),
        ("StepId::job_id", offset_of!(StepId, job_id)),
        ("StepId::step_het_comp", offset_of!(StepId, step_het_comp)),
        ("StepId::step_id", offset_of!(StepId, step_id)),
        ("size of StepId", size_of::<StepId>()),
        ("NsFdMap::kind", offset_of!(NsFdMap, kind)),
        ("NsFdMap::fd", offset_of!(NsFdMap, fd)),
        ("size of NsFdMap", size_of::<NsFdMap>()),
        ("gres_state::DATA", gres_state::DATA),
        ("gres_state::NAME", gres_state::NAME),
        ("gres_job::TYPE_NAME", gres_job::TYPE_NAME),
        ("width of total_gres", 8),
    ];
    let prototypes = [
        "log_var",
        "fatal",
        "list_append",
        "list_count",
        "list_for_each",
        "slurm_xcalloc",
        "print_sluid",
        "proctrack_g_add",
        "switch_g_fs_init",
        "cgroup_g_bpf_get_token",
        "cgroup_g_bpf_set_token",
        "stepd_connect",
        "stepd_get_bpf_token",
        "namespace_g_restore",
        "namespace_g_send_stepd",
        "namespace_g_recv_stepd",
        "namespace_g_stepd_create",
        "namespace_g_join",
        "namespace_g_join_external",
        "namespace_g_can_bpf",
        "namespace_g_setup_bpf_token",
    ];
    let mut rows: BTreeMap<String, Option<u64>> =
        offsets.into_iter().map(|(name, value)| (name.to_owned(), Some(value as u64))).collect();
    rows.extend(prototypes.map(|name| (name.to_owned(), Some(1))));
    rows.extend(
        [
            ("version", Some(version.number().into())),
            ("delete_gets_step", Some(release.delete_gets_step.into())),
            ("slurm_conf::NAMESPACE", Some(slurm_conf::NAMESPACE)),
            ("slurm_conf::SCRIPT", Some(slurm_conf::SCRIPT)),
            ("gres_job::total", version.total_gres().map(|offset| offset as u64)),
            ("gres_job::here", version.total_gres().map(|total| gres_job::here(total) as u64)),
            ("NO_VAL", Some(layout::NO_VAL.into())),
            ("SLURM_EXTERN_CONT", Some(layout::SLURM_EXTERN_CONT.into())),
            ("SLURM_SUCCESS", Some(layout::SLURM_SUCCESS as u64)),
            ("SLURM_ERROR", Some(layout::SLURM_ERROR.cast_unsigned().into())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    rows
}

/// What the headers below `source` say: the rows of tests/abi_check.c, compiled with them.
fn theirs(compiler: &Compiler, source: &Path) -> Result<BTreeMap<String, u64>, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let object = dir.path().join("abi_check.o");
    let compiled = Command::new(&compiler.program)
        .args(["-c", "-w", "-D_GNU_SOURCE", "-I"])
        .args([source.as_os_str(), "-o".as_ref(), object.as_os_str()])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi_check.c"))
        .output()
        .map_err(|error| format!("the C compiler {}: {error}", compiler.program.display()))?;
    if !compiled.status.success() {
        let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
        return Err(format!("{said}{}: is it Slurm's source, and was ./configure run there?", source.display()));
    }
    let content = std::fs::read(&object).map_err(|error| error.to_string())?;
    let first = b"rows of abi_check.c begin here\0";
    let begin =
        content.windows(first.len()).position(|window| window == first).ok_or("no row is in the object file")?;
    // 40 bytes of a name, filled up with zeros, and a number; the last row has no name.
    Ok(content[begin..]
        .chunks_exact(48)
        .skip(1)
        .map_while(|row| {
            let name = row[..40].split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
            Some((str::from_utf8(name).ok()?.to_owned(), u64::from_le_bytes(row[40..].try_into().ok()?)))
        })
        .collect())
}

/// A line for each row on which the plugin and the headers below `source` differ.
fn compare(source: &Path) -> Result<Vec<String>, String> {
    let compiler = Compiler::new()?;
    Ok(differences(ours(compiler.mutex, VERSION), &theirs(&compiler, source)?))
}

fn differences(ours: BTreeMap<String, Option<u64>>, theirs: &BTreeMap<String, u64>) -> Vec<String> {
    let mut differences: Vec<String> = theirs
        .keys()
        .filter(|name| !ours.contains_key(*name))
        .map(|name| format!("{name}: abi_check.rs has no such row"))
        .collect();
    for (name, plugin) in ours {
        let Some(headers) = theirs.get(&name) else {
            differences.push(format!("{name}: abi_check.c says nothing of it"));
            continue;
        };
        match plugin {
            Some(plugin) if plugin != *headers => {
                differences.push(format!("{name}: {plugin} in the plugin, {headers} in Slurm's headers"));
            }
            Some(_) => {}
            None => println!("{name}: {headers} in Slurm's headers; the plugin does without for this release"),
        }
    }
    differences
}

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi_check.headers");

/// What the headers of each release say for each architecture, by "25.11.7/aarch64": a line of the file is
/// the name of a row, a tab, and a value for each of these.
fn recorded() -> BTreeMap<String, BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(RECORDED).unwrap_or_default();
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'));
    let columns: Vec<&str> = lines.next().map(|(_, names)| names.split_whitespace().collect()).unwrap_or_default();
    let mut headers: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (name, values) in lines {
        for (column, value) in columns.iter().zip(values.split_whitespace()) {
            headers.entry((*column).to_owned()).or_default().insert(name.trim_end().to_owned(), value.parse().unwrap());
        }
    }
    headers
}

/// Adds what these headers say.
fn record(compiler: &Compiler, theirs: BTreeMap<String, u64>) {
    let version = Version::from_number(theirs["version"].try_into().unwrap());
    let mut headers = recorded();
    let names: Vec<String> = theirs.keys().cloned().collect();
    headers.insert(format!("{version}/{}", compiler.architecture), theirs);
    let mut text = String::from(
        "# What tests/abi_check.c says with Slurm's headers, for tests/abi_check.rs. A column comes from\n\
         # UPDATE_EXPECTED=1 make abi-check SLURM_SRC=DIR [CC=aarch64-linux-gnu-gcc]\n",
    );
    let mut line = |name: &str, values: Vec<String>| {
        let _ = write!(text, "{name:28}\t");
        for value in values {
            let _ = write!(text, "{value:>18}");
        }
        text.push('\n');
    };
    line("", headers.keys().cloned().collect());
    for name in names {
        line(&name, headers.values().map(|of| of.get(&name).map_or("-".to_owned(), u64::to_string)).collect());
    }
    std::fs::write(RECORDED, text).unwrap();
}

/// Slurm's names of numbers, and ours.
const NUMBERS: [(&str, &str); 7] = [
    ("SLURM_VERSION_NUMBER", "version"),
    ("DEBUG_FLAG_NAMESPACE", "slurm_conf::NAMESPACE"),
    ("DEBUG_FLAG_SCRIPT", "slurm_conf::SCRIPT"),
    ("NO_VAL", "NO_VAL"),
    ("SLURM_EXTERN_CONT", "SLURM_EXTERN_CONT"),
    ("SLURM_SUCCESS", "SLURM_SUCCESS"),
    ("SLURM_ERROR", "SLURM_ERROR"),
];

/// A tree with the headers that abi_check.c includes, with what the plugin takes for granted.
fn stand_in(dir: &Path) {
    for header in include_str!("abi_check.c").lines().filter_map(|line| line.strip_prefix("#include \"")) {
        let path = dir.join(header.trim_end_matches('"'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let rows = ours(Compiler::new().unwrap().mutex, VERSION);
    let number = |name: &str| rows[name].unwrap_or(136);
    let structure = |name: &str, fields: &[(&str, &str, u64)], size: u64| {
        let mut text = String::from("typedef struct __attribute__((packed)) {\n");
        let mut end = 0;
        for (index, (kind, field, width)) in fields.iter().enumerate() {
            let (row, field) = field.split_once(' ').unwrap();
            let offset = number(row);
            let _ = writeln!(text, "char pad{index}[{}]; {kind} {field};", offset - end);
            end = offset + width;
        }
        let _ = writeln!(text, "char rest[{}];\n}} {name};", size.saturating_sub(end));
        text
    };
    let mut text = String::from(
        "#include <pthread.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <sys/types.h>\n
         typedef int log_level_t; typedef struct list list_t; typedef int (*ListForF)(void *, void *);\n",
    );
    text += &structure(
        "slurm_step_id_t",
        &[
            ("uint64_t", "StepId::sluid sluid", 8),
            ("uint32_t", "StepId::job_id job_id", 4),
            ("uint32_t", "StepId::step_het_comp step_het_comp", 4),
            ("uint32_t", "StepId::step_id step_id", 4),
        ],
        24,
    );
    text += &structure(
        "stepd_step_rec_t",
        &[
            ("char *", "step::ALIAS_LIST alias_list", 8),
            ("slurm_step_id_t", "step::STEP_ID step_id", 24),
            ("uint32_t", "step::NNODES nnodes", 4),
            ("uint32_t", "step::HET_JOB_ID het_job_id", 4),
            ("uint64_t", "step::JOB_MEM job_mem", 8),
            ("uint16_t", "step::CPUS cpus", 2),
            ("char *", "step::CWD cwd", 8),
            ("uid_t", "step::UID uid", 4),
            ("char *", "step::USER_NAME user_name", 8),
            ("gid_t", "step::GID gid", 4),
            ("char *", "step::JOB_ALLOC_CORES job_alloc_cores", 8),
            ("list_t *", "step::JOB_GRES_LIST job_gres_list", 8),
        ],
        928,
    );
    text += &structure(
        "slurmd_conf_t",
        &[
            ("char *", "conf::HOSTNAME hostname", 8),
            ("char *", "conf::NODE_NAME node_name", 8),
            ("char *", "conf::CONFFILE conffile", 8),
            ("char *", "conf::SPOOLDIR spooldir", 8),
        ],
        4616,
    );
    text += &structure(
        "slurm_conf_t",
        &[
            ("uint64_t", "slurm_conf::DEBUG_FLAGS debug_flags", 8),
            ("uint32_t", "slurm_conf::SLURM_USER_ID slurm_user_id", 4),
        ],
        2048,
    );
    text += &structure("ns_fd_map_t", &[("int", "NsFdMap::kind type", 4), ("int", "NsFdMap::fd fd", 4)], 8);
    text += &structure(
        "gres_state_t",
        &[("void *", "gres_state::DATA gres_data", 8), ("char *", "gres_state::NAME gres_name", 8)],
        32,
    );
    text += &structure(
        "gres_job_state_t",
        &[
            ("char *", "gres_job::TYPE_NAME type_name", 8),
            ("uint64_t", "gres_job::total total_gres", 8),
            ("uint64_t *", "gres_job::here gres_cnt_node_alloc", 8),
        ],
        192,
    );
    for (name, row) in NUMBERS {
        let _ = writeln!(text, "#define {name} {}u", number(row));
    }
    // The prototypes as abi_check.c states them; stepd_delete is the one that differs between releases.
    let stated = include_str!("abi_check.c").lines().filter_map(|line| line.trim().strip_prefix("PROTOTYPE("));
    for (name, kind) in stated.filter_map(|line| line.strip_suffix("),")?.split_once(", ")) {
        let declared = kind.replace("(*)", name);
        let never_returns = if name == "fatal" { " __attribute__((noreturn))" } else { "" };
        let _ = writeln!(text, "extern {declared}{never_returns};");
    }
    let deleted = if RELEASE.delete_gets_step { "stepd_step_rec_t" } else { "slurm_step_id_t" };
    let _ = writeln!(text, "extern int namespace_g_stepd_delete({deleted} *);");
    std::fs::write(dir.join("slurm/slurm.h"), text).unwrap();
}

#[test]
fn the_plugin_and_the_headers_agree() {
    let dir = tempfile::tempdir().unwrap();
    let source = std::env::var_os("SLURM_SRC").filter(|source| !source.is_empty()).map_or_else(
        || {
            stand_in(dir.path());
            dir.path().to_owned()
        },
        Into::into,
    );
    if std::env::var_os("UPDATE_EXPECTED").is_some() && source != dir.path() {
        let compiler = Compiler::new().unwrap();
        record(&compiler, theirs(&compiler, &source).unwrap());
    }
    let differences = compare(&source).unwrap_or_else(|why| panic!("{why}"));
    assert!(
        differences.is_empty(),
        "the plugin does not fit this release of Slurm; src/slurm/layout.rs and imports.rs must learn of it:\n{}",
        differences.join("\n")
    );
}

/// Every release line, on every architecture: the headers of each release need not be here.
#[test]
fn the_plugin_and_the_recorded_headers_agree() {
    let recorded = recorded();
    for (column, theirs) in &recorded {
        let (_, architecture) = column.split_once('/').unwrap();
        let version = Version::from_number(theirs["version"].try_into().unwrap());
        let differences = differences(ours(layout::mutex_on(architecture).unwrap(), version), theirs);
        assert!(differences.is_empty(), "Slurm {column}:\n{}", differences.join("\n"));
    }
    for row in RELEASES {
        for architecture in ["x86_64", "aarch64"] {
            let is_of = |column: &String| {
                column.starts_with(&format!("{}.{:02}.", row.line.0, row.line.1)) && column.ends_with(architecture)
            };
            assert!(recorded.keys().any(is_of), "no headers of {row:?} are recorded for {architecture}");
        }
    }
}

#[test]
fn what_has_moved_or_changed_is_named() {
    let cpus = step::CPUS.with_mutex(Compiler::new().unwrap().mutex);
    let moved = format!("step::CPUS: {cpus} in the plugin, {} in Slurm's headers", cpus + 8);
    for (is, becomes, said) in [
        ("uint16_t cpus;", "char moved[8]; uint16_t cpus;", moved.as_str()),
        ("uint32_t nnodes;", "uint64_t nnodes;", "width of nnodes: 4 in the plugin, 8 in Slurm's headers"),
        ("proctrack_g_add(stepd_step_rec_t *,", "proctrack_g_add(void *,", "proctrack_g_add: 1 in the plugin, 0 in"),
        ("define NO_VAL ", "define NO_VAL 1 + ", "NO_VAL: 4294967294 in the plugin, 4294967295 in"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        stand_in(dir.path());
        let header = dir.path().join("slurm/slurm.h");
        let text = std::fs::read_to_string(&header).unwrap();
        assert!(text.contains(is), "{is}");
        std::fs::write(&header, text.replacen(is, becomes, 1)).unwrap();
        let differences = compare(dir.path()).unwrap();
        assert!(differences.iter().any(|difference| difference.contains(said)), "{differences:?}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(compare(empty.path()).unwrap_err().contains("was ./configure run there?"));
}

/// Every offset of layout.rs is compared: one that is added there is missing here.
#[test]
fn no_offset_is_left_out() {
    let rows = ours(layout::mutex_on("x86_64").unwrap(), VERSION);
    let mut module = "";
    for line in include_str!("../src/slurm/layout.rs").lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = name.trim_end_matches(" {");
        }
        let constant = line.strip_prefix("    pub const ").and_then(|rest| rest.split_once(": "));
        if let Some((name, _)) =
            constant.filter(|(_, kind)| kind.starts_with("usize =") || kind.starts_with("Offset ="))
        {
            assert!(rows.contains_key(&format!("{module}::{name}")), "{module}::{name}");
        }
    }
}
