//! Slurm's functions and variables, looked up by name when the plugin is loaded.
//!
//! Slurm loads plugins with lazy binding, so its own plugins may refer to symbols that only some daemons have.
//! This library is linked with immediate binding (`-z now`, for hardening): one missing symbol would make the
//! whole plugin unloadable, also in slurmctld and scontrol. So the library imports nothing from Slurm. `init`
//! looks up what it needs, and names what is missing.
//!
//! The prototypes are those of Slurm 25.11, 26.05 and 26.11.

use crate::slurm::flavour::PREFIX;
use crate::slurm::layout;
use crate::slurm::layout::NsFdMap;
use crate::slurm::step::{Step, c_text};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::NonNull;
use rustix::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use std::ffi::CString;
use std::sync::OnceLock;

unsafe extern "C" {
    /// dlsym(3). It is in libc since glibc 2.34, and before in libdl, which every daemon has loaded.
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `RTLD_DEFAULT`: the program and the libraries that it was linked with, in their order.
const RTLD_DEFAULT: *mut c_void = core::ptr::null_mut();

type Log = unsafe extern "C" fn(u32, *const c_char, ...);
type Fatal = unsafe extern "C" fn(*const c_char, ...);
type GetToken = unsafe extern "C" fn(c_int, u16) -> c_int;
type ListCall = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> c_int;

/// Functions of libslurmfull, in every daemon that loads the plugin.
#[derive(Debug)]
pub struct Imports {
    /// `void slurm_log_var(const log_level_t, const char *, ...)`
    log_var: Log,
    /// `void slurm_fatal(const char *, ...)`
    fatal: Fatal,
    /// `void slurm_list_append(list_t *, void *)`
    list_append: unsafe extern "C" fn(*mut c_void, *mut c_void),
    /// `int slurm_list_count(list_t *)`
    list_count: unsafe extern "C" fn(*mut c_void) -> c_int,
    /// `int slurm_list_for_each(list_t *, ListForF, void *)`
    pub(super) list_for_each: ListCall,
    /// `void *slurm_xcalloc(size_t, size_t, bool, bool, const char *, int, const char *)`
    xcalloc: unsafe extern "C" fn(usize, usize, bool, bool, *const c_char, c_int, *const c_char) -> *mut c_void,
    /// `char *slurm_conf_get_hostname(const char *)`
    conf_get_hostname: unsafe extern "C" fn(*const c_char) -> *const c_char,
    /// `void print_sluid(const sluid_t, char *, size_t)`
    print_sluid: unsafe extern "C" fn(u64, *mut c_char, usize),
    /// `slurm_conf_t slurm_conf`
    slurm_conf: NonNull<u8>,
    /// `slurmd_conf_t *conf`
    conf: NonNull<*const u8>,
    /// Symbols that only slurmstepd has; None in slurmd.
    pub stepd: Option<StepdImports>,
    /// `int stepd_get_bpf_token(int, uint16_t)`
    stepd_get_bpf_token: GetToken,
    /// `stepd_destroy_ns_fd_map` exists: the caller of `join_external` closes and frees the descriptors
    /// (26.11).
    pub caller_owns_fds: bool,
}

/// Symbols that only slurmstepd has.
#[derive(Debug)]
pub struct StepdImports {
    /// `stepd_step_rec_t *step`
    step: NonNull<*const u8>,
    /// `int proctrack_g_add(stepd_step_rec_t *, pid_t)`
    proctrack_add: unsafe extern "C" fn(*const u8, i32) -> c_int,
    /// `int switch_g_fs_init(stepd_step_rec_t *)`
    switch_fs_init: unsafe extern "C" fn(*const u8) -> c_int,
    /// `int cgroup_g_bpf_get_token(void)`
    bpf_get_token: unsafe extern "C" fn() -> c_int,
    /// `void cgroup_g_bpf_set_token(int)`
    bpf_set_token: unsafe extern "C" fn(c_int),
    /// `int slurm_stepd_connect(const char *, const char *, slurm_step_id_t *, uint16_t *)`
    stepd_connect: unsafe extern "C" fn(*const c_char, *const c_char, *const layout::StepId, *mut u16) -> c_int,
}

// SAFETY: the pointers are addresses of functions and of global variables of the daemon, valid in
// every thread for as long as it runs. The variables are only read, by methods that say when this is
// allowed.
unsafe impl Send for Imports {}
// SAFETY: as above.
unsafe impl Sync for Imports {}
// SAFETY: as above.
unsafe impl Sync for StepdImports {}

static IMPORTS: OnceLock<Imports> = OnceLock::new();

/// The result of [`load`]; None before.
#[must_use]
pub fn imports() -> Option<&'static Imports> {
    IMPORTS.get()
}

fn find(symbol: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: `symbol` is a C string.
    NonNull::new(unsafe { dlsym(RTLD_DEFAULT, symbol.as_ptr()) })
}

/// `struct dl_phdr_info` (dl_iterate_phdr(3)): the first fields.
#[repr(C)]
struct LoadedObject {
    address: usize,
    name: *const c_char,
}

unsafe extern "C" {
    /// dl_iterate_phdr(3)
    fn dl_iterate_phdr(
        callback: unsafe extern "C" fn(*const LoadedObject, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
}

/// Is a library whose path contains `part` loaded in this process?
#[must_use]
pub fn is_loaded(part: &'static [u8]) -> bool {
    unsafe extern "C" fn matches(object: *const LoadedObject, _: usize, part: *mut c_void) -> c_int {
        // SAFETY: the loader passes a live object, and the pointer that `is_loaded` has passed.
        let (name, part) = unsafe { (c_text((*object).name), *part.cast::<&[u8]>()) };
        c_int::from(name.unwrap_or_default().windows(part.len().max(1)).any(|window| window == part))
    }
    let mut part = part;
    // SAFETY: `matches` has the type of the callback, and `part` outlives the call.
    unsafe { dl_iterate_phdr(matches, (&raw mut part).cast()) != 0 }
}

/// `Dl_info` (dladdr(3)).
#[repr(C)]
struct ObjectOfAddress {
    name: *const c_char,
    base: *const c_void,
    symbol: *const c_char,
    address: *const c_void,
}

unsafe extern "C" {
    /// dladdr(3), in the same library as dlsym.
    fn dladdr(address: *const c_void, info: *mut ObjectOfAddress) -> c_int;
}

/// The path of the file that this plugin was loaded from, as Slurm spells it.
#[must_use]
pub fn own_file() -> Option<String> {
    let null = core::ptr::null::<c_void>();
    let mut info = ObjectOfAddress { name: null.cast(), base: null, symbol: null.cast(), address: null };
    let address = own_file as fn() -> Option<String> as *const c_void;
    // SAFETY: the arguments are an address in this library, and room for the answer.
    if unsafe { dladdr(address, &raw mut info) } == 0 {
        return None;
    }
    // SAFETY: it is null, or the name of a loaded object, which does not change while it is loaded.
    unsafe { c_text(info.name) }.and_then(|name| String::from_utf8(name).ok())
}

/// Casts the address of a symbol to the type of the field.
macro_rules! import {
    ($name:literal) => {
        match find($name) {
            // SAFETY: the symbol is a function with the prototype in the comment of the field, or the
            // address of the variable that is named there. Both types are pointers of the same size.
            Some(address) => unsafe { core::mem::transmute::<NonNull<c_void>, _>(address) },
            None => return Err($name),
        }
    };
}

/// Looks up everything. `init` calls it once, before any other part of the plugin runs.
pub fn load() -> Result<Option<&'static Imports>, &'static CStr> {
    if let Some(imports) = IMPORTS.get() {
        return Ok(Some(imports));
    }
    // Only slurmd and slurmstepd have this symbol.
    let Some(conf) = find(c"conf").map(NonNull::cast) else { return Ok(None) };
    let stepd = match find(c"step") {
        Some(step) => Some(StepdImports {
            step: step.cast(),
            proctrack_add: import!(c"proctrack_g_add"),
            switch_fs_init: import!(c"switch_g_fs_init"),
            bpf_get_token: import!(c"cgroup_g_bpf_get_token"),
            bpf_set_token: import!(c"cgroup_g_bpf_set_token"),
            stepd_connect: import!(c"slurm_stepd_connect"),
        }),
        None => None,
    };
    let found = Imports {
        log_var: import!(c"slurm_log_var"),
        fatal: import!(c"slurm_fatal"),
        list_append: import!(c"slurm_list_append"),
        list_count: import!(c"slurm_list_count"),
        list_for_each: import!(c"slurm_list_for_each"),
        xcalloc: import!(c"slurm_xcalloc"),
        conf_get_hostname: import!(c"slurm_conf_get_hostname"),
        print_sluid: import!(c"print_sluid"),
        slurm_conf: import!(c"slurm_conf"),
        conf,
        stepd,
        stepd_get_bpf_token: import!(c"stepd_get_bpf_token"),
        caller_owns_fds: find(c"stepd_destroy_ns_fd_map").is_some(),
    };
    Ok(Some(IMPORTS.get_or_init(|| found)))
}

/// Ends the daemon because `symbol` is missing, if Slurm's function for this exists.
pub fn fatal_without(symbol: &CStr) {
    let Some(fatal) = find(c"slurm_fatal") else { return };
    // SAFETY: it is `void slurm_fatal(const char *, ...)`, and both types are pointers of the same size.
    let fatal = unsafe { core::mem::transmute::<NonNull<c_void>, Fatal>(fatal) };
    let line = CString::new(without(symbol)).unwrap_or_default();
    // SAFETY: "%s" and one C string, as the format says.
    unsafe { fatal(c"%s".as_ptr(), line.as_ptr()) };
}

fn without(symbol: &CStr) -> String {
    let symbol = symbol.to_string_lossy();
    format!("{PREFIX}this Slurm has no symbol {symbol}; the plugin was built for another version")
}

impl Imports {
    /// Logs one line. Slurm filters by level.
    pub fn log(&self, level: u32, line: &CStr) {
        // SAFETY: "%s" and one C string, as the format says.
        unsafe { (self.log_var)(level, c"%s".as_ptr(), line.as_ptr()) }
    }

    /// Logs and ends the daemon (`fatal` of src/common/log.h).
    pub fn fatal(&self, line: &CStr) {
        // SAFETY: "%s" and one C string, as the format says.
        unsafe { (self.fatal)(c"%s".as_ptr(), line.as_ptr()) }
    }

    /// Is DebugFlags=Namespace set?
    #[must_use]
    pub fn debug(&self) -> bool {
        self.debug_flags() & layout::slurm_conf::NAMESPACE != 0
    }

    /// Is DebugFlags=Script set?
    #[must_use]
    pub fn debug_scripts(&self) -> bool {
        self.debug_flags() & layout::slurm_conf::SCRIPT != 0
    }

    fn debug_flags(&self) -> u64 {
        // SAFETY: it is `debug_flags` of the global slurm_conf, an aligned u64 that other threads always
        // store as a whole.
        unsafe { self.slurm_conf.as_ptr().add(layout::slurm_conf::DEBUG_FLAGS).cast::<u64>().read_volatile() }
    }

    /// Was Slurm built with BPF tokens (`HAVE_BPF_TOKENS`)?
    #[must_use]
    pub fn is_built_with_bpf_tokens(&self) -> bool {
        asks_for_token(self.stepd_get_bpf_token)
    }

    /// The uid of `SlurmUser`; 0 if slurm.conf names none.
    #[must_use]
    pub fn slurm_user(&self) -> u32 {
        // SAFETY: it is `slurm_user_id` of the global slurm_conf, an aligned u32 that slurmd has set before it
        // loads plugins.
        let uid =
            unsafe { self.slurm_conf.as_ptr().add(layout::slurm_conf::SLURM_USER_ID).cast::<u32>().read_volatile() };
        if uid >= layout::NO_VAL { 0 } else { uid }
    }

    /// A text of the daemon's `conf`; None if it is not set.
    #[must_use]
    pub fn conf_text(&self, offset: usize) -> Option<Vec<u8>> {
        // SAFETY: `conf` is the daemon's pointer to its slurmd_conf_t, which it sets before it loads
        // plugins and frees at its end. At `offset` there is a `char *` (layout::conf).
        unsafe {
            let conf = self.conf.as_ptr().read();
            if conf.is_null() {
                return None;
            }
            c_text(conf.add(offset).cast::<*const c_char>().read())
        }
    }

    /// `NodeHostname` of a node in slurm.conf; None if it has no such node. The memory that Slurm allocates
    /// for the answer is not freed, because slurmd asks only once.
    #[must_use]
    pub fn hostname_of(&self, node: &CStr) -> Option<Vec<u8>> {
        // SAFETY: the argument is a C string. The answer is null or a C string that the caller owns.
        unsafe { c_text((self.conf_get_hostname)(node.as_ptr())) }
    }

    /// A SLUID as Slurm prints it.
    #[must_use]
    pub fn sluid_text(&self, sluid: u64) -> String {
        // SLUID_STR_BYTES is 15.
        let mut buffer = [0_u8; 32];
        // SAFETY: the buffer is live and larger than the size that is passed, so its last byte stays 0.
        unsafe { (self.print_sluid)(sluid, buffer.as_mut_ptr().cast(), buffer.len() - 1) };
        CStr::from_bytes_until_nul(&buffer).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Appends `entries` to a list of `ns_fd_map_t *` and returns the length of the list. A caller that
    /// owns the entries (26.11) gets its own descriptors and allocations. Any other gets pointers to
    /// `entries`, which are static, so that nothing leaks with each login.
    ///
    /// # Errors
    ///
    /// A descriptor could not be duplicated (`fcntl(2)`). Nothing was appended.
    ///
    /// # Safety
    ///
    /// `list` is a live `list_t *` of such entries.
    pub unsafe fn append_fds(&self, list: *mut c_void, entries: &'static [NsFdMap]) -> Result<c_int, Errno> {
        let mut own = Vec::new();
        if self.caller_owns_fds {
            for entry in entries {
                // SAFETY: the numbers in `entries` stay open for as long as this process lives, in the end as
                // /dev/null (`Pins::with_other_numbers`).
                let fd = unsafe { BorrowedFd::borrow_raw(entry.fd) };
                own.push(rustix::io::fcntl_dupfd_cloexec(fd, 3)?);
            }
        }
        let mut own = own.into_iter();
        for entry in entries {
            let item: *mut c_void = match own.next() {
                // SAFETY: xcalloc returns a zeroed element of this size. It aborts rather than return null.
                Some(fd) => unsafe {
                    let item = (self.xcalloc)(
                        1,
                        size_of::<NsFdMap>(),
                        true,
                        false,
                        c"slurm-jobns".as_ptr(),
                        0,
                        c"join_external".as_ptr(),
                    );
                    item.cast::<NsFdMap>().write(NsFdMap { kind: entry.kind, fd: fd.into_raw_fd() });
                    item
                },
                None => core::ptr::from_ref(entry).cast_mut().cast(),
            };
            // SAFETY: by the contract of this function. The item lives until the list is freed.
            unsafe { (self.list_append)(list, item) };
        }
        // SAFETY: by the contract of this function.
        Ok(unsafe { (self.list_count)(list) })
    }
}

/// Why there is no BPF token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoToken {
    NotConnected,
    /// Slurm was built without `HAVE_BPF_TOKENS`.
    NotBuiltIn,
    None,
}

/// Does this function send a request for a BPF token? Slurm does if it was built with BPF tokens; otherwise it only
/// logs an error. The request is answered with the end of the stream. Returns true if this cannot be tested.
fn asks_for_token(get_token: GetToken) -> bool {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let Ok((ours, theirs)) = pair else { return true };
    if shutdown(&ours, Shutdown::Write).is_err() || rustix::io::ioctl_fionbio(&ours, true).is_err() {
        return true;
    }
    // SAFETY: the arguments are an open descriptor and a protocol that is not too old for any release.
    let token = unsafe { get_token(theirs.as_raw_fd(), u16::MAX) };
    debug_assert!(token < 0, "nothing has sent one");
    // EAGAIN: nothing was written.
    rustix::io::read(&ours, &mut [0_u8; 4][..]) != Err(Errno::AGAIN)
}

impl NoToken {
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotConnected => "cannot connect to the extern slurmstepd",
            Self::NotBuiltIn => "this Slurm was built without BPF tokens",
            Self::None => "the extern slurmstepd has no BPF token",
        }
    }
}

impl StepdImports {
    /// slurmstepd's own step record; None before it has received it.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        // SAFETY: it is the global `step` of slurmstepd, which is set once, before it calls the entry points
        // that need it, and is valid until the process ends.
        unsafe { Step::from_raw(self.step.as_ptr().read_volatile()) }
    }

    #[must_use]
    pub fn track(&self, step: Step, pid: i32) -> bool {
        // SAFETY: the step record is live, as `Step` promises.
        unsafe { (self.proctrack_add)(step.as_ptr(), pid) == layout::SLURM_SUCCESS }
    }

    #[must_use]
    pub fn switch_fs_init(&self, step: Step) -> bool {
        // SAFETY: the step record is live, as `Step` promises. slurmstepd itself calls the function only from
        // its main thread, but it accesses nothing but the record and /dev.
        unsafe { (self.switch_fs_init)(step.as_ptr()) == layout::SLURM_SUCCESS }
    }

    #[must_use]
    pub fn has_bpf_token(&self) -> bool {
        // SAFETY: the function has no arguments and returns a number.
        unsafe { (self.bpf_get_token)() != -1 }
    }

    /// Fetches the BPF token from the extern slurmstepd of the job and keeps it for this one.
    pub fn fetch_bpf_token(
        &self,
        imports: &Imports,
        spooldir: &CStr,
        node: &CStr,
        extern_step: &layout::StepId,
    ) -> Result<(), NoToken> {
        let mut protocol: u16 = 0;
        // SAFETY: the arguments are two C strings, a live step id and a live u16.
        let fd = unsafe { (self.stepd_connect)(spooldir.as_ptr(), node.as_ptr(), extern_step, &raw mut protocol) };
        if fd < 0 {
            return Err(NoToken::NotConnected);
        }
        // SAFETY: stepd_connect returned a descriptor that the caller owns.
        let connection = unsafe { <rustix::fd::OwnedFd as rustix::fd::FromRawFd>::from_raw_fd(fd) };
        // SAFETY: the arguments are an open descriptor and the protocol of its connection.
        let token = unsafe { (imports.stepd_get_bpf_token)(fd, protocol) };
        drop(connection);
        if token < 0 {
            return Err(if imports.is_built_with_bpf_tokens() { NoToken::None } else { NoToken::NotBuiltIn });
        }
        // SAFETY: Slurm now owns the descriptor.
        unsafe { (self.bpf_set_token)(token) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slurm_without_bpf_tokens_sends_no_request() {
        unsafe extern "C" fn with(fd: c_int, _: u16) -> c_int {
            // SAFETY: it is open during the call.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            assert_eq!(rustix::io::write(fd, b"ask!"), Ok(4));
            assert_eq!(rustix::io::read(fd, &mut [0_u8; 4][..]), Ok(0));
            -1
        }
        unsafe extern "C" fn without(_: c_int, _: u16) -> c_int {
            -1
        }
        assert!(asks_for_token(with));
        assert!(!asks_for_token(without));
    }

    #[test]
    fn the_line_about_a_missing_symbol_names_the_plugin() {
        let plugin = crate::config::flavour::Flavour::OWN.plugin_type();
        let line = without(c"some_symbol");
        assert!(line.starts_with(plugin) && line.contains(" no symbol some_symbol;"), "{line}");
    }
}
