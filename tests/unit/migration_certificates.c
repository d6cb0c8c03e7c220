// SPDX-License-Identifier: MIT
/* See migration_certificates.h. */
#include <stdio.h>
#include <sys/stat.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <criterion/criterion.h>

#include "migration_certificates.h"

#define SECONDS_PER_DAY (24 * 3600)

static void extend(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	cr_assert(extension && X509_add_ext(certificate, extension, -1) == 1, "%s", value);
	X509_EXTENSION_free(extension);
}

static X509 *make(EVP_PKEY *key, const char *common_name, int from_days, int to_days)
{
	static long serial;
	X509 *certificate = X509_new();
	cr_assert(certificate && key);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), (long)from_days * SECONDS_PER_DAY);
	X509_gmtime_adj(X509_getm_notAfter(certificate), (long)to_days * SECONDS_PER_DAY);
	X509_set_pubkey(certificate, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
				   (const unsigned char *)common_name, -1, -1, 0);
	return certificate;
}

static void write_certificate(const char *path, X509 *certificate)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && PEM_write_X509(file, certificate) == 1);
	fclose(file);
}

void authority_create(struct authority *authority, const char *common_name, const char *path)
{
	authority->key = EVP_EC_gen("P-256");
	authority->certificate = make(authority->key, common_name, -1, 365);
	X509_set_issuer_name(authority->certificate, X509_get_subject_name(authority->certificate));
	extend(authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
	cr_assert(X509_sign(authority->certificate, authority->key, EVP_sha256()) > 0);
	write_certificate(path, authority->certificate);
}

void authority_destroy(struct authority *authority)
{
	EVP_PKEY_free(authority->key);
	X509_free(authority->certificate);
}

void authority_sign(const struct authority *authority, const struct certificate_wish *wish,
		    const char *certificate_path, const char *key_path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = make(key, "host", wish->from_days, wish->to_days);
	X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate));
	extend(certificate, NID_subject_alt_name, wish->names);
	if (wish->use)
		extend(certificate, NID_ext_key_usage, wish->use);
	cr_assert(X509_sign(certificate, authority->key, EVP_sha256()) > 0);
	write_certificate(certificate_path, certificate);
	FILE *file = fopen(key_path, "w");
	cr_assert(file && fchmod(fileno(file), 0600) == 0);
	cr_assert_eq(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
}
