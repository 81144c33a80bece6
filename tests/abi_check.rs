//! `make abi-check SLURM_SRC=DIR`: the offsets, numbers and prototypes that the plugin relies on
//! (src/slurm/layout.rs, src/slurm/imports.rs), beside those of the headers of a configured Slurm
//! source tree. For packagers, before a plugin is built or stamped for a new release.
//!
//! Without `SLURM_SRC` the test uses headers that it writes itself: this shows that the comparison finds
//! differences, and nothing about Slurm.

use slurm_jobns::slurm::layout;
use slurm_jobns::slurm::layout::{NsFdMap, StepId, conf, gres_job, gres_state, slurm_conf, step};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// What the plugin takes for granted. None: it does not know, and does without.
fn ours() -> BTreeMap<String, Option<u64>> {
    let offsets = [
        ("step::ALIAS_LIST", step::ALIAS_LIST),
        ("step::STEP_ID", step::STEP_ID),
        ("step::NNODES", step::NNODES),
        ("step::HET_JOB_ID", step::HET_JOB_ID),
        ("step::JOB_MEM", step::JOB_MEM),
        ("step::CPUS", step::CPUS),
        ("step::CWD", step::CWD),
        ("step::UID", step::UID),
        ("step::USER_NAME", step::USER_NAME),
        ("step::GID", step::GID),
        ("step::JOB_GRES_LIST", step::JOB_GRES_LIST),
        ("width of nnodes", 4),
        ("width of het_job_id", 4),
        ("width of job_mem", 8),
        ("width of cpus", 2),
        ("conf::HOSTNAME", conf::HOSTNAME),
        ("conf::NODE_NAME", conf::NODE_NAME),
        ("conf::CONFFILE", conf::CONFFILE),
        ("conf::SPOOLDIR", conf::SPOOLDIR),
        ("slurm_conf::DEBUG_FLAGS", slurm_conf::DEBUG_FLAGS),
        ("slurm_conf::SLURM_USER_ID", slurm_conf::SLURM_USER_ID),
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
            ("version", Some(slurm_jobns::slurm_version::VERSION.number().into())),
            ("delete_gets_step", Some(slurm_jobns::slurm_version::RELEASE.delete_gets_step.into())),
            ("slurm_conf::NAMESPACE", Some(slurm_conf::NAMESPACE)),
            ("slurm_conf::SCRIPT", Some(slurm_conf::SCRIPT)),
            ("gres_job::total", gres_job::total(slurm_jobns::slurm_version::VERSION).map(|offset| offset as u64)),
            ("NO_VAL", Some(layout::NO_VAL.into())),
            ("SLURM_EXTERN_CONT", Some(layout::SLURM_EXTERN_CONT.into())),
            ("SLURM_SUCCESS", Some(layout::SLURM_SUCCESS as u64)),
            ("SLURM_ERROR", Some(layout::SLURM_ERROR.cast_unsigned().into())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    rows
}

/// What the headers below `source` say: tests/abi_check.c, compiled with them.
fn theirs(source: &Path) -> Result<BTreeMap<String, u64>, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let program = dir.path().join("abi_check");
    let compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-w", "-D_GNU_SOURCE", "-Wl,--unresolved-symbols=ignore-all", "-I"])
        .args([source.as_os_str(), "-o".as_ref(), program.as_os_str()])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi_check.c"))
        .output()
        .map_err(|error| format!("the C compiler: {error}"))?;
    if !compiler.status.success() {
        let said = String::from_utf8_lossy(&compiler.stderr).into_owned();
        return Err(format!("{said}{}: is it Slurm's source, and was ./configure run there?", source.display()));
    }
    let output = Command::new(&program).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

/// A line for each row on which the plugin and the headers differ.
fn compare(source: &Path) -> Result<Vec<String>, String> {
    let (ours, theirs) = (ours(), theirs(source)?);
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
    Ok(differences)
}

/// A tree with the headers that abi_check.c includes, with what the plugin takes for granted.
fn stand_in(dir: &Path) {
    for header in include_str!("abi_check.c").lines().filter_map(|line| line.strip_prefix("#include \"")) {
        let path = dir.join(header.trim_end_matches('"'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let rows = ours();
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
        "#include <stdbool.h>\n#include <stdint.h>\n#include <sys/types.h>\n
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
        &[("char *", "gres_job::TYPE_NAME type_name", 8), ("uint64_t", "gres_job::total total_gres", 8)],
        192,
    );
    for (name, row) in [
        ("SLURM_VERSION_NUMBER", "version"),
        ("DEBUG_FLAG_NAMESPACE", "slurm_conf::NAMESPACE"),
        ("DEBUG_FLAG_SCRIPT", "slurm_conf::SCRIPT"),
        ("NO_VAL", "NO_VAL"),
        ("SLURM_EXTERN_CONT", "SLURM_EXTERN_CONT"),
        ("SLURM_SUCCESS", "SLURM_SUCCESS"),
        ("SLURM_ERROR", "SLURM_ERROR"),
    ] {
        let _ = writeln!(text, "#define {name} {}u", number(row));
    }
    // The prototypes as abi_check.c states them; stepd_delete is the one that differs between releases.
    let stated = include_str!("abi_check.c").lines().filter_map(|line| line.trim().strip_prefix("PROTOTYPE("));
    for (name, kind) in stated.filter_map(|line| line.strip_suffix(");")?.split_once(", ")) {
        let declared = kind.replace("(*)", name);
        let never_returns = if name == "fatal" { " __attribute__((noreturn))" } else { "" };
        let _ = writeln!(text, "extern {declared}{never_returns};");
    }
    let deleted =
        if slurm_jobns::slurm_version::RELEASE.delete_gets_step { "stepd_step_rec_t" } else { "slurm_step_id_t" };
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
    let differences = compare(&source).unwrap_or_else(|why| panic!("{why}"));
    assert!(
        differences.is_empty(),
        "the plugin does not fit this release of Slurm; src/slurm/layout.rs and imports.rs must learn of it:\n{}",
        differences.join("\n")
    );
}

#[test]
fn what_has_moved_or_changed_is_named() {
    for (is, becomes, said) in [
        ("uint16_t cpus;", "char moved[8]; uint16_t cpus;", "step::CPUS: 280 in the plugin, 288 in Slurm's headers"),
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
    let rows = ours();
    let mut module = "";
    for line in include_str!("../src/slurm/layout.rs").lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = name.trim_end_matches(" {");
        }
        if let Some((name, _)) = line.strip_prefix("    pub const ").and_then(|rest| rest.split_once(": usize =")) {
            assert!(rows.contains_key(&format!("{module}::{name}")), "{module}::{name}");
        }
    }
}
