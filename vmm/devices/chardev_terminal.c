// SPDX-License-Identifier: MIT
/*
 * Raw mode and its end. Whatever may run inside a signal handler here uses only async-signal-safe calls
 * (signal-safety(7)) and the state below, which is complete before the handlers that read it are installed.
 *
 * A process in the background must not touch the terminal: the kernel would stop it with SIGTTOU or SIGTTIN, and the
 * modes belong to the shell or to another job then.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

#include "chardev.h"
#include "chardev_terminal.h"

/* Signals that end a process which does not handle them. SIGCONT comes last: it only re-enters raw mode. */
static const int handled[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV,
			      SIGBUS, SIGILL, SIGFPE,  SIGSYS,  SIGCONT};
#define HANDLED_COUNT (sizeof(handled) / sizeof(handled[0]))

static struct {
	int fd;
	bool taken;
	volatile sig_atomic_t raw; /* we changed the modes; `found` is valid */
	struct termios found;
	bool installed[HANDLED_COUNT];
} terminal = {.fd = -1};

/*
 * A terminal that does not control this session has no jobs, so nobody is in its background. 0: it has a foreground
 * group, but not one of this PID namespace, or it is a pty's master.
 */
static bool in_foreground(void)
{
	pid_t group = tcgetpgrp(terminal.fd);
	return group <= 0 || group == getpgrp();
}

/* Output keeps its processing, so that lines of our own and of a shell's job table look right. */
static void enter_raw(const struct termios *found)
{
	struct termios raw = *found;
	raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
	raw.c_cflag |= CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(terminal.fd, TCSANOW, &raw);
}

void chardev_restore_terminal(void)
{
	int saved_errno = errno;
	if (terminal.raw) {
		terminal.raw = 0;
		if (in_foreground())
			tcsetattr(terminal.fd, TCSANOW, &terminal.found);
	}
	errno = saved_errno;
}

/* SA_RESETHAND made the signal's action the default again; it takes effect when the handler returns. */
static void on_fatal_signal(int number)
{
	chardev_restore_terminal();
	raise(number);
}

/* Stopped and continued: the shell used the terminal in its own mode meanwhile. */
static void on_continue(int number)
{
	int saved_errno = errno;
	if (terminal.raw) {
		if (in_foreground())
			enter_raw(&terminal.found);
		else
			terminal.raw = 0; /* terminal_ready starts over once we are in front again */
	}
	errno = saved_errno;
}

/* Only signals that nobody handles: a program with handlers of its own calls chardev_restore_terminal in them. */
static void install_handlers(void)
{
	for (size_t i = 0; i < HANDLED_COUNT; i++) {
		struct sigaction current;
		if (sigaction(handled[i], NULL, &current) < 0 || current.sa_flags & SA_SIGINFO ||
		    current.sa_handler != SIG_DFL)
			continue;
		struct sigaction ours = {.sa_handler = on_fatal_signal, .sa_flags = (int)SA_RESETHAND};
		if (handled[i] == SIGCONT)
			ours = (struct sigaction){.sa_handler = on_continue, .sa_flags = SA_RESTART};
		sigemptyset(&ours.sa_mask);
		terminal.installed[i] = sigaction(handled[i], &ours, NULL) == 0;
	}
}

static void remove_handlers(void)
{
	for (size_t i = 0; i < HANDLED_COUNT; i++) {
		struct sigaction current;
		bool ours = terminal.installed[i] && sigaction(handled[i], NULL, &current) == 0 &&
			    !(current.sa_flags & SA_SIGINFO) &&
			    (current.sa_handler == on_fatal_signal || current.sa_handler == on_continue);
		terminal.installed[i] = false;
		if (ours)
			signal(handled[i], SIG_DFL);
	}
}

void terminal_take(int fd)
{
	terminal.fd = fd;
	terminal.taken = true;
	install_handlers();
	terminal_ready();
}

bool terminal_ready(void)
{
	if (!in_foreground())
		return false;
	if (!terminal.raw) {
		if (tcgetattr(terminal.fd, &terminal.found) < 0)
			return true; /* it hung up: reading will say so */
		terminal.raw = 1;    /* first, so that a signal in between restores too much rather than too little */
		enter_raw(&terminal.found);
	}
	return true;
}

void terminal_release(void)
{
	if (!terminal.taken)
		return;
	chardev_restore_terminal();
	remove_handlers();
	terminal.taken = false;
	terminal.fd = -1;
}
