//! `jobns check`: the problems of a configuration file and its settings for a node, before slurmd reads it.
//!
//! | file | what it does |
//! |---|---|
//! | this | the command: options, reading, exit status |
//! | [`watchdog`] | runs `--here` in a child, and gives up if a file system does not answer |
//! | [`here`] | `--here`: checks of this machine |
//! | [`loaded`] | the plugin that the running slurmd has loaded |
//! | [`show`] | the settings with their sources, as text and as JSON |
//!
//! The output, including problems, is on standard output. Errors that prevent the check are on standard error. The JSON
//! is one object; for several nodes it is one object on each line:
//!
//! ```text
//! file, format          "namespace.yaml" or "job_container.conf"
//! node, hostname        the node for which the file was read; for several nodes with the same result, their names
//!                       separated by commas, and the host name of the first
//! errors, warnings      counts, including those of --here and strangers[]
//! problems[]            level ("error", "warning"), file, line, column, length, message, hint, text
//! state                 "enabled", "disabled" or "refused"
//! why                   a sentence if "disabled", otherwise null
//! settings              null, or an object: each key of the file (directories under "dirs") to
//!                       {value, from ("defaults", "node", "built in"), line}
//! strangers[]           warnings: node names in the file that are not in slurm.conf
//! here                  null, or {errors[], warnings[], notes[]}: sentences from --here
//! unchecked[]           sentences about what was not checked
//! ```
//!
//! Fields may be added. The fields above keep their meaning.

mod here;
mod loaded;
pub(super) mod show;
mod watchdog;

use crate::base::error::Words;
use crate::cli::help::{CHECK, Command};
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::config::problem::escape;
use crate::config::settings::Node;
use crate::config::{cluster, hostlist, spelling};
use crate::node::config_file;
use crate::node::config_file::{ConfigFile, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use crate::node::finding::{About, Findings};
use here::Here;
use rustix::fs::OFlags;
use rustix::io::Errno;
use show::Checked;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Nodes in one check at most.
const MOST_NODES: usize = 10_000;

/// The name of standard input in messages.
const STDIN: &str = "<stdin>";

/// Exit status if there are only warnings, with `--strict`.
const ONLY_WARNINGS: u8 = 1;
/// Exit status if there is an error.
pub(super) const ERRORS: u8 = 2;

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one option, free to combine")]
pub(super) struct Options {
    file: OsString,
    pub(super) node: Option<String>,
    json: bool,
    strict: bool,
    here: bool,
    quiet: bool,
    tmpfs: bool,
}

/// Parses the options of `check` or `convert`.
pub(super) fn parse(command: &'static Command, arguments: &[OsString]) -> Result<Options, Stop> {
    let mut options = Options::default();
    let mut file = None;
    let mut reader = Reader::new(command, arguments);
    while let Some(word) = reader.next()? {
        match word {
            Word::Option("--node", name) => options.node = Some(options::node(name)?),
            Word::Option(_, value) => options.json = options::format(value)?,
            Word::Flag("--strict") => options.strict = true,
            Word::Flag("--here") => options.here = true,
            Word::Flag("--quiet") => options.quiet = true,
            Word::Flag(_) => options.tmpfs = true,
            Word::Dashes => {}
            Word::Operand(_) if file.is_some() => {
                return Err(Stop::Wrong(format!("{0} reads one file at a time; see jobns {0} --help", command.name)));
            }
            Word::Operand(operand) => file = Some(operand),
        }
    }
    options.file =
        file.ok_or_else(|| format!("{0} needs a file, or - for standard input; see jobns {0} --help", command.name))?;
    Ok(options)
}

/// `jobns check`
pub(crate) fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&CHECK, parse(&CHECK, arguments))? else { return Ok(ExitCode::SUCCESS) };
    if options.here
        && !watchdog::is_child()
        && let Some(result) = watchdog::run(&options, arguments)
    {
        return result;
    }
    let mut found = Findings::default();
    let Some(input) = Input::read(&options, &mut found) else { return Ok(ExitCode::from(ERRORS)) };
    // With --node, the names that slurmd has recorded are not needed.
    let this = match &options.node {
        Some(names) if !options.here => (names.clone(), names.clone()),
        name => super::nodes::this(name.as_deref())?,
    };
    let (errors, warnings, said) = verdict(&options, &input, &this, found)?;
    // A closed pipe (| head) does not change the exit status.
    super::answer(&said)?;
    Ok(match (errors, warnings) {
        (1.., _) => ExitCode::from(ERRORS),
        (0, 1..) if options.strict => ExitCode::from(ONLY_WARNINGS),
        _ => ExitCode::SUCCESS,
    })
}

/// The number of errors, the number of warnings, and the output for all nodes. The pair contains the names of this node
/// and this machine.
fn verdict(
    options: &Options,
    input: &Input,
    (this_node, this_machine): &(String, String),
    mut found: Findings,
) -> Result<(usize, usize, String), String> {
    let wanted = if options.here { this_node } else { options.node.as_ref().unwrap_or(this_node) };
    let names = match hostlist::expand(wanted, MOST_NODES) {
        Ok(Some(names)) if !names.is_empty() => names,
        Ok(Some(_)) => return Err(format!("--node {wanted} names no node")),
        Ok(None) => return Err(format!("--node {wanted} names more than {MOST_NODES} nodes")),
        Err(error) => return Err(format!("--node {wanted} {error}")),
    };
    if options.here && names.len() > 1 {
        return Err(format!("--here checks this machine, but --node {wanted} names {} nodes", names.len()));
    }
    let cluster = cluster::nodes(&slurm_conf_beside(&options.file));
    let mut groups: Vec<(Checked<'_>, Vec<&str>)> = Vec::new();
    for node_name in &names {
        // Most nodes have the name of their machine.
        let is_here = options.here || options.node.is_none();
        let hostname = if is_here { this_machine } else { node_name };
        let mut checked = check(options, input, Node { name: node_name, hostname }, &mut found);
        checked.strangers = cluster::strangers(&checked.file.parsed.nodes, &cluster, node_name);
        spelling::use_conf(checked.format == JOB_CONTAINER_CONF);
        if options.here {
            // With --here there is only one node.
            checked.here = Some(Here::check(&checked.file, &checked.node, std::mem::take(&mut found)));
        }
        // Nodes with the same result are printed once.
        match groups.iter_mut().find(|(other, _)| other.has_same_result(&checked)) {
            Some((_, nodes)) => nodes.push(node_name),
            None => groups.push((checked, vec![node_name])),
        }
    }
    let (mut errors, mut warnings, mut said) = (0, 0, String::new());
    let lists: Vec<String> = groups.iter().map(|(_, nodes)| nodes.join(",")).collect();
    for ((mut checked, _), list) in groups.into_iter().zip(&lists) {
        checked.node.name = list;
        let counts = checked.counts();
        (errors, warnings) = (errors + counts.0, warnings + counts.1);
        if options.json {
            said += &checked.json();
        } else if options.quiet {
            said += &checked.errors();
        } else {
            if !said.is_empty() {
                said.push('\n');
            }
            said += &checked.text();
        }
    }
    Ok((errors, warnings, said))
}

/// The text of slurm.conf in the directory of the file, if there is one.
fn slurm_conf_beside(file: &OsStr) -> Vec<u8> {
    let directory = Path::new(file).parent().filter(|_| file != "-");
    directory.and_then(|directory| std::fs::read(directory.join("slurm.conf")).ok()).unwrap_or_default()
}

/// Reads the file for one node.
pub(super) fn parsed(options: &Options, input: &Input, node: &Node<'_>, found: &mut Findings) -> ConfigFile {
    let is_conf = options.tmpfs || Path::new(&options.file).file_name() == Some(OsStr::new(JOB_CONTAINER_CONF.name));
    let format = if is_conf { JOB_CONTAINER_CONF } else { NAMESPACE_YAML };
    // As in Slurm, an included file is relative to the directory of slurm.conf, which contains this file as well.
    let directory = Path::new(&options.file).parent().filter(|_| options.file != "-").unwrap_or(Path::new("."));
    format.parse(input.name.clone(), &input.text, node, &mut |name| {
        read(directory.join(name).as_os_str(), found).map_err(|errno| Words(errno).to_string())
    })
}

fn check<'a>(options: &Options, input: &Input, node: Node<'a>, found: &mut Findings) -> Checked<'a> {
    let file = parsed(options, input, &node, found);
    let format = file.file;
    Checked { file, format, node, strangers: Vec::new(), here: None }
}

/// The text to check.
pub(super) struct Input {
    name: String,
    text: Vec<u8>,
}

impl Input {
    /// Reads the text. If that fails, prints a message and returns `None`.
    pub(super) fn read(options: &Options, found: &mut Findings) -> Option<Self> {
        let name = if options.file == "-" { STDIN.into() } else { options.file.to_string_lossy().into_owned() };
        watchdog::checking(&name);
        match read(&options.file, found) {
            Ok(text) => Some(Self { name, text }),
            Err(errno) => {
                super::complain(&format!("jobns: cannot read {}: {}\n", escape(&name), Words(errno)));
                None
            }
        }
    }
}

/// Reads a file of any owner, a pipe, or standard input, and records who can change it.
fn read(file: &OsStr, found: &mut Findings) -> Result<Vec<u8>, Errno> {
    if file == "-" {
        return config_file::read_text(rustix::stdio::stdin());
    }
    let open = config_file::open(file, OFlags::empty())?;
    let result = config_file::who_can_change(&open, &file.to_string_lossy(), found);
    found.check(About::Node, result);
    config_file::read_text(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, Stop> {
        parse(&CHECK, &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let found = options(&["f.yaml", "--node", "n1", "--format=json", "--strict", "--tmpfs"]).unwrap();
        assert_eq!((found.node.as_deref(), found.json, found.strict, found.tmpfs), (Some("n1"), true, true, true));
        assert!(options(&["a", "--here", "--node", "n"]).unwrap().here);
        assert_eq!(options(&["-"]).unwrap().file, "-");
        assert_eq!(options(&["--", "--strict"]).unwrap().file, "--strict");
        for bad in [
            &[][..],
            &["a", "b"],
            &["a", "--nod", "n"],
            &["a", "--node"],
            &["a", "--node", ""],
            &["a", "--format", "xml"],
        ] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }

    fn input(yaml: &str) -> Input {
        Input { name: "namespace.yaml".to_owned(), text: yaml.into() }
    }

    fn checked(yaml: &str) -> Checked<'static> {
        let options = Options { file: "namespace.yaml".into(), ..Options::default() };
        check(&options, &input(yaml), Node { name: "n1", hostname: "n1" }, &mut Findings::default())
    }

    #[test]
    fn text_has_the_source_of_each_value() {
        let yaml = "\
defaults:
  base_path: /ns/%n
  clone_ns_flags: CLONE_NEWPID
node_confs:
- nodes: n[1-3]
  options:
    init_script: /etc/slurm/init
    dir_confs:
    - {path: /tmp, mode: 01777}
    - {path: /scratch/%u, tmpfs: true, options: \"noexec,size=4g\"}
    - {path: /fast, base_path: /nvme}
";
        assert_eq!(
            checked(yaml).text(),
            "\
settings of node n1:
  base_path               /ns/n1                    defaults, line 2
  auto_base_path          false                     built in
  hide_base_path          false                     built in
  clone_ns_flags          CLONE_NEWNS,CLONE_NEWPID  defaults, line 3
  shared                  false                     built in
  disable_bpf_token       false                     built in
  init_script             /etc/slurm/init           node_confs entry, line 7
  init_script_wait        10                        built in
  scripts_may_be_missing  false                     built in
  removal_timeout         60                        built in
  dir_confs                                         node_confs entry, line 8
    /tmp         in base_path, mode 1777
    /fast        in /nvme
    /scratch/%u  tmpfs, options nosuid,nodev,noexec,size=4g

not checked: paths and their owners, scripts, kernel support: see --here
namespace.yaml: no errors, no warnings
"
        );
    }

    #[test]
    fn writers_of_an_included_file_are_checked() {
        use std::os::unix::fs::PermissionsExt as _;
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        std::fs::write(path("job_container.conf"), "Include other.conf\n").unwrap();
        std::fs::write(path("other.conf"), "BasePath=/ns\n").unwrap();
        let is_refused = |mode| {
            std::fs::set_permissions(path("other.conf"), std::fs::Permissions::from_mode(mode)).unwrap();
            let options = Options { file: path("job_container.conf").into(), ..Options::default() };
            let mut found = Findings::default();
            let input = Input::read(&options, &mut found).unwrap();
            assert!(parsed(&options, &input, &Node { name: "n", hostname: "n" }, &mut found).parsed.settings.is_some());
            found.has_fatal()
        };
        assert!(!is_refused(0o644));
        assert!(is_refused(0o666));
    }

    #[test]
    fn each_node_of_a_hostlist_is_checked() {
        let said = |node: &str, json, yaml: &str| {
            let file = OsString::from("namespace.yaml");
            let options = Options { file, node: Some(node.to_owned()), json, ..Options::default() };
            verdict(&options, &input(yaml), &("x".to_owned(), "x".to_owned()), Findings::default())
        };
        let yaml = "defaults: {base_path: /ns}\nnode_confs:\n- {nodes: \"n[1-4]\", options: {base_path: none}}\n";
        let text = said("n[1-2],m,n4", false, yaml).unwrap().2;
        assert!(
            text.starts_with("node n1,n2,n4 gets no private directories or namespaces: base_path is none"),
            "{text}"
        );
        let of_m =
            "\nnote: no entry of node_confs names node m: it gets the settings for all nodes\nsettings of node m:\n";
        assert!(text.contains(of_m), "{text}");
        assert_eq!(said("n[1-2],m", true, yaml).unwrap().2.lines().count(), 2);
        let text = said("login1", false, "node_confs: [{nodes: c1, options: {base_path: /ns}}]").unwrap().2;
        assert!(text.contains("no entry of node_confs names node login1, and there is no base_path for all"), "{text}");
        let errors = said("n[1-2],m", false, "defaults: {base_pth: /ns}").unwrap();
        assert_eq!((errors.0, errors.2.matches("unknown key").count()), (1, 1));
        for bad in ["n[1-", ",", "n[1-20000]"] {
            assert!(said(bad, false, yaml).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_a_user_namespace_are_shown_only_if_it_has_one() {
        let yaml = "defaults: {base_path: /ns, clone_ns_flags: CLONE_NEWUSER}";
        assert!(checked(yaml).text().contains("\n  user_ns_limits     10                         built in\n"));
        assert!(checked(yaml).json().contains(r#""user_ns_limits":{"value":10,"from":"built in","line":null}"#));
        let yaml = "defaults: {base_path: /ns, clone_ns_flags: CLONE_NEWUSER, user_ns_limits: 30}";
        assert!(checked(yaml).text().contains("\n  user_ns_limits     30                         defaults, line 1\n"));
        assert!(!checked("defaults: {base_path: /ns}").text().contains("user_ns_limits"));
    }

    #[test]
    fn what_create_hides_is_shown() {
        let yaml = "defaults: {base_path: /ns, dir_confs: [{path: /run/user/%U, create: true, owner: root}]}";
        let text = checked(yaml).text();
        let hidden = "\n    /run/user     hidden, mode 0755, options nosuid,nodev,noexec,ro\n";
        assert!(text.contains(hidden) && text.contains("\n    /run/user/%U  in base_path, owner root\n"), "{text}");
        let json = checked(yaml).json();
        assert!(json.contains(r#"{"path":"/run/user","backing":"hidden","base_path":null,"owner":"root""#), "{json}");
    }

    #[test]
    fn text_of_files_without_settings() {
        let text = checked("defaults: {base_path: none}").text();
        assert_eq!(
            text,
            "\
node n1 gets no private directories or namespaces: base_path is none (defaults, line 1)
namespace.yaml: no errors, no warnings
"
        );
        let text = checked("defaults: {base_pth: /x}").text();
        assert!(text.starts_with("namespace.yaml:1:12: unknown key") && text.contains("         ^~~~"), "{text}");
        assert!(text.ends_with("\nnamespace.yaml: 1 error, no warnings: slurmd refuses this file\n"), "{text}");
    }

    #[test]
    fn json_is_one_stable_object() {
        assert_eq!(
            checked("defaults:\n  base_path: /ns\n  dirs: /tmp\n  shared:\n").json(),
            r#"{"file":"namespace.yaml","format":"namespace.yaml","node":"n1","hostname":"n1","errors":0,"warnings":1,"problems":[{"level":"warning","file":"namespace.yaml","line":4,"column":9,"length":1,"message":"shared has no value, which Slurm reads as false","hint":"write false","text":"  shared:"}],"state":"enabled","why":null,"settings":{"base_path":{"value":"/ns","from":"defaults","line":2},"auto_base_path":{"value":false,"from":"built in","line":null},"hide_base_path":{"value":false,"from":"built in","line":null},"clone_ns_flags":{"value":["CLONE_NEWNS"],"from":"built in","line":null},"shared":{"value":false,"from":"defaults","line":4},"disable_bpf_token":{"value":false,"from":"built in","line":null},"removal_timeout":{"value":60,"from":"built in","line":null},"dirs":{"value":[{"path":"/tmp","backing":"base_path","base_path":"/ns","owner":"user","mode":null,"size":null,"inodes":null,"options":[]}],"from":"defaults","line":3}},"strangers":[],"here":null,"unchecked":["paths and their owners, scripts, kernel support: see --here"]}
"#
        );
        let refused = checked("defaults: {base_pth: \"/x\\\"\"}").json();
        assert!(refused.contains(r#""state":"refused","why":null,"settings":null"#), "{refused}");
        assert!(refused.contains(r#""text":"defaults: {base_pth: \"/x\\\"\"}""#), "{refused}");
    }
}
