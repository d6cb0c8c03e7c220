/* SPDX-License-Identifier: MIT */
/* Certificates for tests, made on the spot and written as PEM files. */
#ifndef MIGRATION_CERTIFICATES_H
#define MIGRATION_CERTIFICATES_H

#include <openssl/evp.h>
#include <openssl/x509.h>

struct authority {
	EVP_PKEY *key;
	X509 *certificate;
};

struct certificate_wish {
	const char *names;      /* as in openssl.cnf: "DNS:host,IP:127.0.0.1" */
	const char *use;        /* extended key usage, or NULL */
	int from_days, to_days; /* of validity, from today */
};

/** @param path  the CA's certificate goes there */
void authority_create(struct authority *authority, const char *common_name, const char *path);
void authority_destroy(struct authority *authority);
/** Makes a key, and has its certificate signed. */
void authority_sign(const struct authority *authority, const struct certificate_wish *wish,
		    const char *certificate_path, const char *key_path);

#endif
