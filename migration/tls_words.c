// SPDX-License-Identifier: MIT
/* TLS's failures in words that say what to do. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls.h"

struct reason {
	int reason;
	int code;
	const char *words;
};

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define OTHER_CA       "its certificate is not from the CA that this side trusts; give both sides certificates of one CA"
#define NOT_TLS        "what it sends is not TLS 1.3; give both sides TLS options, or neither"
#define OTHER_KEY      "it has another pre-shared key, or certificates; give both sides the same"
#define CERTIFICATE_NO "it refuses this side's certificate"

/* We refuse the other side's certificate: X509_V_ERR_*. */
static const struct reason refusals[] = {
	{X509_V_ERR_CERT_HAS_EXPIRED, -EKEYEXPIRED, "its certificate has expired; renew it, or set this host's clock"},
	{X509_V_ERR_CERT_NOT_YET_VALID, -EKEYREJECTED,
	 "its certificate is not yet valid; set the clocks of both hosts, or wait"},
	{X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_CERT_SIGNATURE_FAILURE, -EKEYREJECTED, OTHER_CA},
	{X509_V_ERR_INVALID_PURPOSE, -EKEYREJECTED,
	 "its certificate is for another use; give it one for both server and client authentication"},
};

/* What the two sides cannot agree on: SSL_R_*, of which those from SSL_AD_REASON_OFFSET on are what the other side told us. */
static const struct reason failures[] = {
	{SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, -EKEYREJECTED,
	 "it showed no certificate; give it one of the same CA"},
	{SSL_R_WRONG_VERSION_NUMBER, -EPROTO, NOT_TLS},
	{SSL_R_UNSUPPORTED_PROTOCOL, -EPROTO, NOT_TLS},
	{SSL_R_VERSION_TOO_LOW, -EPROTO, NOT_TLS},
	{SSL_R_HTTP_REQUEST, -EPROTO, NOT_TLS},
	{SSL_R_HTTPS_PROXY_REQUEST, -EPROTO, NOT_TLS},
	{SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, -EPROTO, NOT_TLS},
	{SSL_R_BINDER_DOES_NOT_VERIFY, -EKEYREJECTED, OTHER_KEY},
	{SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, -EKEYEXPIRED,
	 CERTIFICATE_NO " as expired; renew it, or set that host's clock"},
	{SSL_R_TLSV1_ALERT_UNKNOWN_CA, -EKEYREJECTED,
	 CERTIFICATE_NO ": it trusts another CA, or has a pre-shared key; give both sides the same"},
	{SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, -EKEYREJECTED,
	 CERTIFICATE_NO ", perhaps as not yet valid or for another name; see its message"},
	{SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, -EKEYREJECTED, CERTIFICATE_NO "; see its message"},
	{SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, -EKEYREJECTED,
	 CERTIFICATE_NO " as made for another use; give one for both server and client authentication"},
	{SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, -EKEYREJECTED,
	 "it does not take certificates, perhaps because it has a pre-shared key; give both sides the same"},
	{SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, -EKEYREJECTED,
	 "it wants a certificate; give this side certificates, as it has"},
};

static const struct reason *find(const struct reason *reasons, size_t count, long reason)
{
	for (size_t i = 0; i < count; i++)
		if (reasons[i].reason == reason)
			return &reasons[i];
	return NULL;
}

static int say(const struct reason *found, char words[TLS_WORDS_BYTES])
{
	snprintf(words, TLS_WORDS_BYTES, "%s", found->words);
	return found->code;
}

static int say_refusal(const SSL *ssl, long result, char words[TLS_WORDS_BYTES])
{
	const struct reason *found = find(refusals, COUNT(refusals), result);
	X509_VERIFY_PARAM *rules = SSL_get0_param((SSL *)ssl);
	if (found)
		return say(found, words);
	if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH) {
		char *address = X509_VERIFY_PARAM_get1_ip_asc(rules);
		const char *name = address ? address : X509_VERIFY_PARAM_get0_host(rules, 0);
		snprintf(words, TLS_WORDS_BYTES,
			 "its certificate is not for %.100s; give it one that is, or tell the name that it has as the "
			 "peer's",
			 name ? name : "it");
		OPENSSL_free(address);
	} else {
		snprintf(words, TLS_WORDS_BYTES, "its certificate is refused: %s; give it another",
			 X509_verify_cert_error_string(result));
	}
	return -EKEYREJECTED;
}

int tls_words(const SSL *ssl, const struct tls_context *context, char words[TLS_WORDS_BYTES])
{
	unsigned long error = ERR_peek_error(); /* the first: what others follow from */
	int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
	const struct reason *found = find(failures, COUNT(failures), reason);
	const char *text = ERR_reason_error_string(error);
	bool early = !SSL_is_init_finished(ssl);
	ERR_clear_error();
	/* With a pre-shared key, who has none or another one learns no more than that it failed. */
	if (context->key_bytes > 0 && early && reason && (!found || found->code != -EPROTO)) {
		snprintf(words, TLS_WORDS_BYTES, "%s", OTHER_KEY);
		return -EKEYREJECTED;
	}
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return say_refusal(ssl, SSL_get_verify_result(ssl), words);
	if (found)
		return say(found, words);
	if (error == 0 && early) {
		snprintf(words, TLS_WORDS_BYTES, "it closed the connection during the handshake; see its message");
		return -ECONNRESET;
	}
	snprintf(words, TLS_WORDS_BYTES, "%s; see whether something between the hosts changes what they send",
		 text ? text : "OpenSSL does not say why");
	return -EPROTO;
}
