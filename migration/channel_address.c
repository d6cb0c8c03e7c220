// SPDX-License-Identifier: MIT
/* Addresses of channels, read from text. Nothing is opened or looked up here. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"

/* A number without sign, space or other ornaments. @return false: it is none, or is above `max` */
static bool number(const char *text, unsigned long max, unsigned long *out)
{
	if (*text < '0' || *text > '9' || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10)
		return false;
	*out = strtoul(text, NULL, 10);
	return *out <= max;
}

static int bad_tcp(const char *text, const char *cause, struct tenon_error *err)
{
	return tenon_fail(err, -EINVAL, "%.200s: %s; write tcp:HOST:PORT, an IPv6 address as tcp:[::1]:PORT", text,
			  cause);
}

/* HOST:PORT or [HOST]:PORT */
static int parse_tcp(const char *text, const char *rest, struct channel_address *out, struct tenon_error *err)
{
	const char *host = rest, *end;
	if (*rest == '[') {
		host++;
		end = strchr(host, ']');
		if (!end || end[1] != ':')
			return bad_tcp(text, "no \"]:\" after the address", err);
		rest = end + 2;
	} else {
		end = strchr(rest, ':');
		if (!end)
			return bad_tcp(text, "no port", err);
		rest = end + 1;
		if (strchr(rest, ':'))
			return bad_tcp(text, "more than one colon", err);
	}
	size_t length = (size_t)(end - host);
	if (length == 0 || length >= sizeof(out->host))
		return bad_tcp(text, length ? "the host's name is too long" : "no host", err);
	memcpy(out->host, host, length);
	unsigned long port;
	if (!number(rest, UINT16_MAX, &port))
		return bad_tcp(text, "the port is no number from 0 to 65535", err);
	out->port = (uint16_t)port;
	return 0;
}

static int parse_path(const char *text, const char *rest, struct channel_address *out, struct tenon_error *err)
{
	out->path = rest;
	return *rest ? 0 : tenon_fail(err, -EINVAL, "%s: no path; write it after the colon", text);
}

static int parse_fd(const char *text, const char *rest, struct channel_address *out, struct tenon_error *err)
{
	unsigned long fd;
	if (!number(rest, INT_MAX, &fd))
		return tenon_fail(err, -EINVAL, "%.200s: not the number of a descriptor; write fd:N", text);
	out->fd = (int)fd;
	return 0;
}

int channel_address_parse(const char *text, struct channel_address *out, struct tenon_error *err)
{
	static const struct {
		const char *prefix;
		enum address_kind kind;
		int (*parse)(const char *, const char *, struct channel_address *, struct tenon_error *);
	} kinds[] = {
		{"tcp:", ADDRESS_TCP, parse_tcp},
		{"unix:", ADDRESS_UNIX, parse_path},
		{"fd:", ADDRESS_FD, parse_fd},
		{"file:", ADDRESS_FILE, parse_path},
	};
	if (!text)
		return tenon_fail(err, -EINVAL, "no address; give tcp:HOST:PORT, unix:PATH, fd:N or file:PATH");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].prefix);
		if (strncmp(text, kinds[i].prefix, length) != 0)
			continue;
		*out = (struct channel_address){.kind = kinds[i].kind, .fd = -1};
		return kinds[i].parse(text, text + length, out, err);
	}
	return tenon_fail(err, -EINVAL, "%.200s: no such address; write tcp:HOST:PORT, unix:PATH, fd:N or file:PATH",
			  text);
}
