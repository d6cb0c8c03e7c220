// SPDX-License-Identifier: MIT
/* What the TLS connections of one channel or listener share: whom they trust, who they are, and what they never do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls.h"

/* OpenSSL's own order has ChaCha20 before AES-128, which a pre-shared key would then use at a third of its speed. */
#define CIPHERS "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"

bool tls_wanted(const struct tenon_channel_options *options)
{
	return options->tls_ca || options->tls_cert || options->tls_key || options->tls_psk_file ||
	       options->tls_peer_name;
}

static int check_options(const char *name, const struct tenon_channel_options *options, struct tenon_error *err)
{
	const char *missing = !options->tls_ca     ? "whom to trust (the CA's certificate)"
			      : !options->tls_cert ? "this side's certificate"
			      : !options->tls_key  ? "the key of this side's certificate"
						   : NULL;
	if (!options->tls_psk_file) {
		if (!missing)
			return 0;
		return tenon_fail(
			err, -EINVAL,
			"%s: TLS: %s is missing; give a CA, a certificate and its key, or the file of a pre-shared "
			"key",
			name, missing);
	}
	if (!options->tls_ca && !options->tls_cert && !options->tls_key && !options->tls_peer_name)
		return 0;
	return tenon_fail(
		err, -EINVAL,
		"%s: TLS: a pre-shared key together with certificates or a peer's name; give one or the other", name);
}

/* ---- Pre-shared keys. OpenSSL calls these for TLS 1.3 too, with SHA-256 as the hash of the key's use ---- */

static unsigned give_key(const struct tls_context *context, unsigned char *key, unsigned capacity)
{
	if (capacity < context->key_bytes)
		return 0;
	memcpy(key, context->key, context->key_bytes);
	return (unsigned)context->key_bytes;
}

static unsigned offer_key(SSL *ssl, const char *hint, char *identity, unsigned identity_capacity, unsigned char *key,
			  unsigned key_capacity)
{
	const struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	size_t length = strlen(context->identity);
	if (length >= identity_capacity)
		return 0;
	memcpy(identity, context->identity, length + 1);
	return give_key(context, key, key_capacity);
}

static unsigned find_key(SSL *ssl, const char *identity, unsigned char *key, unsigned capacity)
{
	const struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	return strcmp(identity, context->identity) == 0 ? give_key(context, key, capacity) : 0;
}

static int use_shared_key(const char *name, const char *path, struct tls_context *context, struct tenon_error *err)
{
	SSL_CTX_set_psk_client_callback(context->openssl, offer_key);
	SSL_CTX_set_psk_server_callback(context->openssl, find_key);
	return tls_read_shared_key(name, path, context, err);
}

/* ---- Certificates ---- */

static int use_authorities(const char *name, const char *path, SSL_CTX *openssl, struct tenon_error *err)
{
	struct stack_st_X509 *found;
	int code = tls_read_certificates(name, path, &found, err);
	if (code < 0)
		return code;
	for (int i = 0; i < sk_X509_num(found) && code == 0; i++)
		if (X509_STORE_add_cert(SSL_CTX_get_cert_store(openssl), sk_X509_value(found, i)) != 1)
			code = tenon_fail(err, -EINVAL, "%s: TLS: OpenSSL refuses a certificate of %s; give another",
					  name, path);
	sk_X509_pop_free(found, X509_free);
	return code;
}

/* The first is ours, the others lead to the CA. */
static int use_certificate(const char *name, const char *path, SSL_CTX *openssl, struct tenon_error *err)
{
	struct stack_st_X509 *found;
	int code = tls_read_certificates(name, path, &found, err);
	if (code < 0)
		return code;
	bool good = SSL_CTX_use_certificate(openssl, sk_X509_value(found, 0)) == 1;
	for (int i = 1; i < sk_X509_num(found) && good; i++)
		good = SSL_CTX_add1_chain_cert(openssl, sk_X509_value(found, i)) == 1;
	sk_X509_pop_free(found, X509_free);
	if (good)
		return 0;
	return tenon_fail(err, -EINVAL,
			  "%s: TLS: OpenSSL refuses the certificate %s, perhaps as too weak; give another", name, path);
}

static int use_key(const char *name, const struct tenon_channel_options *options, SSL_CTX *openssl,
		   struct tenon_error *err)
{
	EVP_PKEY *key;
	int code = tls_read_private_key(name, options->tls_key, &key, err);
	if (code < 0)
		return code;
	bool good = SSL_CTX_use_PrivateKey(openssl, key) == 1 && SSL_CTX_check_private_key(openssl) == 1;
	EVP_PKEY_free(key);
	if (good)
		return 0;
	return tenon_fail(err, -EINVAL,
			  "%s: TLS: the key %s does not belong to the certificate %s; give the one that does", name,
			  options->tls_key, options->tls_cert);
}

static int use_certificates(const char *name, const struct tenon_channel_options *options, struct tls_context *context,
			    struct tenon_error *err)
{
	int code = use_authorities(name, options->tls_ca, context->openssl, err);
	if (code == 0)
		code = use_certificate(name, options->tls_cert, context->openssl, err);
	if (code == 0)
		code = use_key(name, options, context->openssl, err);
	if (code == 0 && options->tls_peer_name) {
		context->peer_name = strdup(options->tls_peer_name);
		if (!context->peer_name)
			code = tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	}
	return code;
}

/* ---- Create and release ---- */

/* @return false: out of memory */
static bool set_rules(SSL_CTX *openssl)
{
	/* With a pre-shared key nothing is trusted: who answers with a certificate instead fails, on either side. */
	SSL_CTX_set_verify(openssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	/* Each connection stands for itself: no tickets, no resumption. A stream says itself where it ends. */
	SSL_CTX_set_session_cache_mode(openssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(openssl, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
	/* A write takes what it can; without auto-retry a peer that sends anything but data lets our deadlines be seen. */
	SSL_CTX_set_mode(openssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_clear_mode(openssl, SSL_MODE_AUTO_RETRY);
	return SSL_CTX_set_ciphersuites(openssl, CIPHERS) == 1 && SSL_CTX_set_num_tickets(openssl, 0) == 1 &&
	       SSL_CTX_set_min_proto_version(openssl, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(openssl, TLS1_3_VERSION) == 1;
}

int tls_context_create(const char *name, const struct tenon_channel_options *options, struct tls_context **out,
		       struct tenon_error *err)
{
	*out = NULL;
	if (!tls_wanted(options))
		return 0;
	int code = check_options(name, options, err);
	if (code < 0)
		return code;
	struct tls_context *context = calloc(1, sizeof(*context));
	if (!context)
		return tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	atomic_init(&context->users, 1);
	context->openssl = SSL_CTX_new(TLS_method());
	context->socket = tls_socket_method();
	if (!context->openssl || !context->socket || !set_rules(context->openssl)) {
		ERR_clear_error();
		tls_context_release(context);
		return tenon_fail(err, -ENOMEM, "%s: TLS: OpenSSL cannot start; see whether its configuration is sound",
				  name);
	}
	SSL_CTX_set_app_data(context->openssl, context);
	code = options->tls_psk_file ? use_shared_key(name, options->tls_psk_file, context, err)
				     : use_certificates(name, options, context, err);
	ERR_clear_error();
	if (code < 0)
		tls_context_release(context);
	else
		*out = context;
	return code;
}

void tls_context_hold(struct tls_context *context)
{
	atomic_fetch_add(&context->users, 1);
}

void tls_context_release(struct tls_context *context)
{
	if (!context || atomic_fetch_sub(&context->users, 1) > 1)
		return;
	SSL_CTX_free(context->openssl);
	BIO_meth_free(context->socket);
	free(context->peer_name);
	OPENSSL_cleanse(context->key, sizeof(context->key));
	free(context);
}
