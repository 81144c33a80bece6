//! Compares the table of keys with everything that has its own list: the settings, the manual pages, the dictionaries
//! of the fuzz targets, the tests. A key that is missing in one of them fails here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use slurm_jobns::config::flavour::Flavour;
use slurm_jobns::config::keys;
use slurm_jobns::config::keys::{DIR_KEYS, ENTRY_KEYS, KEYS, Key, Kind, TOP_KEYS};
use slurm_jobns::config::settings::Settings;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// The text of all files below a directory whose name ends so.
fn all_text(directory: &str, extension: &str) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(path(directory)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{directory}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            all.push_str(&all_text(&name, extension));
        } else if name.ends_with(extension) {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(path(&name)).unwrap()));
        }
    }
    all
}

const FORMATS: [Flavour; 2] = [Flavour::Linux, Flavour::Tmpfs];

/// The name of the key with what is behind it in a file.
fn written(name: &str, format: Flavour) -> String {
    match format {
        Flavour::Linux => format!("{name}:"),
        Flavour::Tmpfs => format!("{name}="),
    }
}

#[test]
fn no_two_keys_have_one_name() {
    let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    for format in FORMATS {
        let names: BTreeSet<_> = keys::names(format).map(str::to_ascii_lowercase).collect();
        assert_eq!(names.len(), keys::of(format).count());
    }
    for key in &KEYS {
        assert!(key.yaml.is_none_or(|name| name == key.name), "{key:?}");
        assert!(key.yaml.is_some() || key.conf.is_some(), "{key:?}");
        assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{key:?}");
    }
}

#[test]
fn a_field_is_that_of_its_key_and_has_its_default() {
    let settings = Settings::new("/b".to_owned());
    let fields = format!("{:?}", Settings { init_script: None, ..settings.clone() });
    for key in &KEYS {
        let default = match &key.kind {
            Kind::Flag(field) => (field.of)(&settings).to_string(),
            Kind::Seconds(field) | Kind::Percent(field) => (field.of)(&settings).to_string(),
            _ => continue,
        };
        assert_eq!(default, key.default, "{}", key.name);
        assert!(fields.contains(&format!(" {}: {default}", key.name)), "the field of {} has another name", key.name);
    }
    // Each boolean of the settings is a key, and each key its own field.
    let mut all = settings;
    for key in &KEYS {
        if let Kind::Flag(field) = &key.kind {
            let now = (field.of_mut)(&mut all);
            assert!(!*now, "{} has the field of another key", key.name);
            *now = true;
        }
    }
    assert!(
        !format!("{all:?}")
            .replace("namespaces: Namespaces { pid: false, user: false, ipc: false }", "")
            .contains("false")
    );
}

/// What a page says below a heading, by item: the name and the text.
fn items(page: &str, heading: &str) -> Vec<(String, String)> {
    let page = text(page).replace("\n.Sh ", "\n.Ss ");
    let section = page.split("\n.Ss ").find(|section| section.starts_with(&format!("{heading}\n")));
    let items = section.unwrap_or_else(|| panic!("{heading}")).split("\n.It Ic ").skip(1);
    items
        .map(|item| item.split_once('\n').unwrap())
        .map(|(name, text)| (name.to_owned(), format!("{text}\n")))
        .collect()
}

/// What the page says of a key: words of its first line, its default, whether only this plugin has it.
fn said(key: &Key) -> (Option<&'static str>, &'static str, bool) {
    let kind = match key.kind {
        Kind::Flag(_) => Some("Boolean"),
        Kind::Percent(_) => Some("from 1 to 100"),
        Kind::Seconds(_) | Kind::Wait(_) => Some("econds"),
        Kind::Script(_) => Some("path of a script"),
        _ => None,
    };
    (kind, key.default, key.is_ours)
}

#[test]
fn the_manual_pages_have_the_table() {
    for (format, page, heading) in [
        (Flavour::Linux, "man/namespace.yaml.5", "Keys of defaults and options"),
        (Flavour::Tmpfs, "man/job_container.conf.5", "Keys"),
    ] {
        let items = items(page, heading);
        let found: BTreeSet<&str> = items.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, keys::names(format).collect::<BTreeSet<_>>(), "{page}");
        for (name, text) in &items {
            let key = keys::find(name, format).unwrap();
            let (kind, default, is_ours) = said(key);
            let first = text.lines().next().unwrap_or_default();
            assert!(kind.is_none_or(|kind| first.contains(kind)), "{page}: {name} is \"{first}\"");
            assert!(
                default.is_empty() || text.contains(&format!("\nDefault: {default}.\n")),
                "{page}: default of {name}"
            );
            let says_ours = text.contains("\nOnly this plugin has this key.\n");
            assert_eq!(says_ours, is_ours, "{page}: {name} is ours");
        }
    }
    for (heading, known) in [
        ("Keys of the top level", &TOP_KEYS[..]),
        ("Keys of an entry of node_confs", &ENTRY_KEYS),
        ("Keys of an entry of dir_confs", &DIR_KEYS),
    ] {
        let items = items("man/namespace.yaml.5", heading);
        let found: BTreeSet<&str> = items.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, known.iter().copied().collect(), "{heading}");
    }
}

/// `UPDATE_EXPECTED=1` adds what is missing.
#[test]
fn the_fuzzer_knows_each_key() {
    for (format, dictionary) in
        [(Flavour::Linux, "fuzz/dict/namespace_yaml.dict"), (Flavour::Tmpfs, "fuzz/dict/job_container_conf.dict")]
    {
        let mut words = text(dictionary);
        let inner = TOP_KEYS.into_iter().chain(ENTRY_KEYS).chain(DIR_KEYS).filter(|_| format == Flavour::Linux);
        for name in keys::names(format).chain(inner) {
            let word = format!("\"{}\"\n", written(name, format));
            let is_update = std::env::var_os("UPDATE_EXPECTED").is_some();
            assert!(is_update || words.contains(&word), "{dictionary} lacks {name}");
            if !words.contains(&word) {
                words.push_str(&word);
                std::fs::write(path(dictionary), &words).unwrap();
            }
        }
    }
}

#[test]
fn each_key_is_in_a_test() {
    let rust = text("tests/config_slurm.rs") + &text("tests/config_tmpfs.rs");
    for (format, extension) in [(Flavour::Linux, ".yaml"), (Flavour::Tmpfs, ".conf")] {
        let files = all_text("tests/config", extension) + &rust;
        for name in keys::names(format) {
            assert!(files.contains(&written(name, format)), "no file of tests/config*, and no row there, sets {name}");
        }
    }
}

#[test]
fn each_boolean_is_used() {
    let rooms = ["base", "job", "node", "remover", "slurm"];
    let source: String = rooms.iter().map(|room| all_text(&format!("src/{room}"), ".rs")).collect();
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Flag(_))) {
        let field = format!("settings.{}", key.name);
        assert!(source.contains(&field), "nothing in src/{{{}}} looks at {field}", rooms.join(","));
    }
}
