/* SPDX-License-Identifier: MIT */
/* Listeners from the inside, for those of migration/ that hand one to another process. */
#ifndef LISTENER_H
#define LISTENER_H

#include <stdbool.h>

#include <tenon-migration/channel.h>

/**
 * Takes over a listening socket that another process opened, as it was passed. It asks for no permission to go without encryption:
 * who opened it had it. Closing it leaves the path of a Unix socket alone, which belongs to who opened it.
 *
 * @param fd  consumed, if it succeeds
 */
int listener_adopt(int fd, struct tenon_listener **out, struct tenon_error *err);

/** What is accepted from now on uses the TLS and the timeout of these options, as the listener did where it was opened. */
int listener_secure(struct tenon_listener *listener, const struct tenon_channel_options *options,
		    struct tenon_error *err);

/** Closing it leaves the path of its Unix socket alone: another process listens there from now on, with the socket it was passed. */
void listener_leave_path(struct tenon_listener *listener);
/** Whether it is a connection that was passed: nobody else can ever connect. */
bool listener_is_single(const struct tenon_listener *listener);

#endif
