// SPDX-License-Identifier: MIT
/* What a migration is asked to do: the strings that a request owns, and what of addresses and TLS can be checked without opening anything. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

void engine_request_finish(struct engine_request *request)
{
	const char *const tls[] = {request->tls.ca, request->tls.cert, request->tls.key, request->tls.psk,
				   request->tls.peer};
	for (unsigned i = 0; i < sizeof(tls) / sizeof(tls[0]); i++)
		free((char *)tls[i]);
	free(request->address);
	*request = (struct engine_request){0};
}

/* A number and nothing else. */
static bool is_number(const char *text, unsigned long last)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && errno == 0 && value <= last;
}

static int check_tcp(const char *what, const char *address, const char *rest, struct tenon_error *err)
{
	const char *colon = strrchr(rest, ':');
	bool bracketed = *rest == '[';
	bool host = colon && (bracketed ? colon[-1] == ']' : colon > rest && strchr(rest, ':') == colon);
	if (!host || !is_number(colon + 1, 65535))
		return tenon_fail(
			err, -EINVAL,
			"%s %s: no host and port; write it like tcp:10.0.0.2:4444, tcp:[fe80::1]:4444 or tcp:host:4444",
			what, address);
	return 0;
}

int engine_address_check(const char *what, const char *address, struct tenon_error *err)
{
	const char *colon = strchr(address, ':'), *rest = colon ? colon + 1 : "";
	if (strncmp(address, "tcp:", 4) == 0)
		return check_tcp(what, address, rest, err);
	if (strncmp(address, "fd:", 3) == 0) {
		if (is_number(rest, INT_MAX) && atoi(rest) > 2)
			return 0;
		return tenon_fail(err, -EINVAL, "%s %s: no number of an open file, from 3; give one", what, address);
	}
	if (strncmp(address, "unix:", 5) != 0 && strncmp(address, "file:", 5) != 0)
		return tenon_fail(err, -EINVAL,
				  "%s %s: no address of a known kind; give tcp:HOST:PORT, unix:PATH, fd:N or file:PATH",
				  what, address);
	if (!*rest)
		return tenon_fail(err, -EINVAL, "%s %s: no path; give one", what, address);
	return 0;
}

int engine_tls_check(const char *what, const struct engine_tls *tls, struct tenon_error *err)
{
	bool certificates = tls->ca || tls->cert || tls->key;
	if (tls->psk && (certificates || tls->peer))
		return tenon_fail(err, -EINVAL,
				  "%s: tls-psk goes with no certificates; give either the key or tls-ca, tls-cert and "
				  "tls-key",
				  what);
	if (certificates && !(tls->ca && tls->cert && tls->key))
		return tenon_fail(err, -EINVAL,
				  "%s: each side of TLS shows a certificate and checks the other's; give tls-ca, "
				  "tls-cert and tls-key",
				  what);
	if (tls->peer && !certificates)
		return tenon_fail(err, -EINVAL, "%s: tls-peer is of a certificate; give tls-ca, tls-cert and tls-key",
				  what);
	return 0;
}
