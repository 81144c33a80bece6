// The process that holds the floor's namespaces: no C library, no memory of its own. x86-64.
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

void _start(void)
{
	static const unsigned long ignore[4] = {1}; // SIG_IGN
	call(157, 15, (long)"slurmstepd", 0, 0, 0); // prctl(PR_SET_NAME)
	call(157, 4, 0, 0, 0, 0); // prctl(PR_SET_DUMPABLE, 0)
	call(13, 17, (long)ignore, 0, 8, 0); // rt_sigaction(SIGCHLD)
	for (;;)
		call(271, 0, 0, 0, 0, 8); // ppoll
}
