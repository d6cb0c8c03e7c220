/* SPDX-License-Identifier: MIT */
/* Kernel calls that fail for a moment, and locks that are taken for one. */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <pthread.h>
#include <stdbool.h>

#include <tenon/error.h>

enum patience {
	PATIENT_WITH_LOCKS = 1,     /* EAGAIN */
	PATIENT_WITH_NEIGHBOURS = 2 /* and EBUSY, where that says nothing else */
};

/**
 * An ioctl on a device or its group, tried again for a tenth of a second: the kernel only tries the locks of a device and of its
 * neighbours, which a reader of sysfs or a driver's probe may hold for a moment. One that fails has changed nothing.
 *
 * @return as kernel_ioctl
 */
int patient_ioctl(int fd, unsigned long request, void *argument, enum patience patience);

/** Takes a lock that becomes free within so long. @return whether it did */
bool patient_lock(pthread_mutex_t *lock, unsigned milliseconds);

/** Says that opening a device still found a lock taken in the end. @param what  could not be done. @return -EAGAIN */
int patience_ended(const char *what, const char *name, struct tenon_error *err);

#endif
