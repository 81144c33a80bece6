//! The program that holds a job's namespaces: a static ELF file of a few hundred bytes.
//!
//! It becomes PID 1 of the job's PID namespace. It makes these calls, in this order:
//!
//! 1. `prctl(PR_SET_NAME, …)`: the name that `ps` and `top` show;
//! 2. `prctl(PR_SET_DUMPABLE, 0)`: exec has set it to 1;
//! 3. `rt_sigaction(SIGCHLD, SIG_IGN)`: from then on the kernel reaps every process that is re-parented
//!    to it (wait(2), NOTES), so no zombie waits until this process is scheduled;
//! 4. `ppoll(NULL, 0, NULL, NULL)`, forever.
//!
//! All signals are blocked when it starts and stay blocked. It has no heap, no libc and no writable
//! data, only one page of text and one of stack. It is assembled into the plugin's read-only data and
//! started from a memfd, so there is no file that must be installed or that could be replaced.

use core::arch::global_asm;

/// The ELF file of a machine (`e_machine`), with this code.
macro_rules! holder_image {
    ($machine:literal, $($code:literal),+ $(,)?) => {
        global_asm!(
            ".pushsection .rodata.jobns_holder, \"a\"",
            ".balign 16",
            ".hidden jobns_holder_image",
            ".globl jobns_holder_image",
            "jobns_holder_image:",
            // ELF header (elf(5)): 64-bit, little-endian, ET_EXEC (2), machine, two program headers.
            ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
            concat!(".2byte 2, ", $machine),
            ".4byte 1",
            ".8byte 0x400000 + (20f - jobns_holder_image)",
            ".8byte 64, 0",
            ".4byte 0",
            ".2byte 64, 56, 2, 64, 0, 0",
            // PT_LOAD (1), readable and executable (5): the whole file.
            ".4byte 1, 5",
            ".8byte 0, 0x400000, 0x400000",
            ".8byte 29f - jobns_holder_image, 29f - jobns_holder_image, 0x1000",
            // PT_GNU_STACK (0x6474e551), readable and writable (6): no executable stack.
            ".4byte 0x6474e551, 6",
            ".8byte 0, 0, 0, 0, 0, 16",
            "20:",
            $($code,)+
            ".balign 8",
            // struct sigaction of the kernel: handler SIG_IGN (1), flags, restorer, mask.
            "24:",
            ".8byte 1, 0, 0, 0",
            // The name, written by `image` below.
            "25:",
            ".space 16",
            "29:",
            ".hidden jobns_holder_end",
            ".globl jobns_holder_end",
            "jobns_holder_end:",
            ".popsection",
        );
    };
}

#[cfg(target_arch = "x86_64")]
holder_image!(
    62,
    "mov eax, 157", // prctl
    "mov edi, 15",  // PR_SET_NAME
    "lea rsi, [rip + 25f]",
    "syscall",
    "mov eax, 157",
    "mov edi, 4", // PR_SET_DUMPABLE
    "xor esi, esi",
    "syscall",
    "mov eax, 13", // rt_sigaction
    "mov edi, 17", // SIGCHLD
    "lea rsi, [rip + 24f]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "21:",
    "mov eax, 271", // ppoll
    "xor edi, edi",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov r8d, 8",
    "syscall",
    "jmp 21b",
);

#[cfg(target_arch = "aarch64")]
holder_image!(
    183,
    "mov x8, 167", // prctl
    "mov x0, 15",  // PR_SET_NAME
    "adr x1, 25f",
    "svc #0",
    "mov x8, 167",
    "mov x0, 4", // PR_SET_DUMPABLE
    "mov x1, 0",
    "svc #0",
    "mov x8, 134", // rt_sigaction
    "mov x0, 17",  // SIGCHLD
    "adr x1, 24f",
    "mov x2, 0",
    "mov x3, 8",
    "svc #0",
    "21:",
    "mov x8, 73", // ppoll
    "mov x0, 0",
    "mov x1, 0",
    "mov x2, 0",
    "mov x3, 0",
    "mov x4, 8",
    "svc #0",
    "b 21b",
);

unsafe extern "C" {
    static jobns_holder_image: u8;
    static jobns_holder_end: u8;
}

/// The bytes of the program, with `name` (cut to 15 bytes) as the name of the process.
#[must_use]
pub fn image(name: &[u8]) -> Vec<u8> {
    let (start, end) = (&raw const jobns_holder_image, &raw const jobns_holder_end);
    // SAFETY: both symbols are labels in one section of this object's read-only data, and `start` is the first.
    // So the bytes between them are initialised, never written, and live as long as the code.
    let bytes = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
    let mut bytes = bytes.to_vec();
    // The last 16 bytes are the name, NUL-terminated.
    for (slot, byte) in bytes.iter_mut().rev().take(16).rev().zip(name.iter().take(15)) {
        *slot = *byte;
    }
    bytes
}
