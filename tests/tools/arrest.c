/* SPDX-License-Identifier: MIT */
/* arrest PID: stops a process dead, PID 1 too, for as long as this one runs. A signal could not. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t pid = argc == 2 ? (pid_t)atoi(argv[1]) : 0;
	int status;

	if (pid <= 0 || ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 ||
		ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0) {
		perror("arrest");
		return 1;
	}
	if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) {
		perror("arrest: it does not stop");
		return 1;
	}
	(void)puts("arrested");
	(void)fflush(stdout);
	for (;;)
		(void)pause();
}
