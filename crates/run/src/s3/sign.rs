//! Signatures of requests: AWS Signature Version 4 in the header `authorization`.

use evt_core::parse::hex::hex;
use evt_core::parse::query::escaped;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

/// The credentials and the region with which requests are signed.
#[derive(Clone)]
pub struct Signer {
    /// The id of the key.
    pub access_key: String,
    /// The secret of the key.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// The region of the server.
    pub region: String,
}

/// A request without a signature.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRequest<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The value of the header `host`.
    pub host: &'a str,
    /// The path, percent-encoded.
    pub path: &'a str,
    /// The names and values of the query.
    pub query: &'a [(&'a str, String)],
    /// Further headers, with names in lower case.
    pub headers: &'a [(&'a str, String)],
    /// SHA-256 of the body, hexadecimal.
    pub payload: &'a str,
    /// The time, such as `20260101T000000Z`.
    pub time: &'a str,
}

impl Signer {
    /// Returns all headers of the request, with the signature.
    pub fn sign<'a>(&self, request: UnsignedRequest<'a>) -> Vec<(&'a str, String)> {
        let UnsignedRequest { method, host, path, payload, time, .. } = request;
        let mut headers = request.headers.to_vec();
        headers.push(("host", host.to_owned()));
        headers.push(("x-amz-content-sha256", payload.to_owned()));
        headers.push(("x-amz-date", time.to_owned()));
        headers.extend(self.session_token.clone().map(|token| ("x-amz-security-token", token)));
        headers.sort();
        let named: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let names = Vec::from_iter(headers.iter().map(|(name, _)| *name)).join(";");
        let query = encoded_query(request.query);
        let canonical = format!("{method}\n{path}\n{query}\n{named}\n{names}\n{payload}");
        let day = time.get(..8).unwrap_or(time);
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = [day, &self.region, "s3", "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", self.secret_key).into_bytes(), |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        let credential = format!("{}/{scope}", self.access_key);
        let value = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        headers.push(("authorization", value));
        headers
    }
}

/// Formats it without secrets.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, {})", self.access_key, self.region)
    }
}

/// Returns a query as it is sent and signed: encoded, and ordered by name.
pub fn encoded_query(pairs: &[(&str, String)]) -> String {
    let mut encoded: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    encoded.sort();
    encoded.join("&")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return vec![] };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of "Authenticating Requests (AWS Signature Version 4)" in the API reference of S3.
    #[test]
    fn the_examples_of_the_reference_have_their_signatures() {
        let signer = Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            region: "us-east-1".to_owned(),
        };
        let empty = hex(&Sha256::digest(b""));
        let range = [("range", "bytes=0-9".to_owned())];
        let list = [("max-keys", "2".to_owned()), ("prefix", "J".to_owned())];
        let lifecycle = [("lifecycle", String::new())];
        type Pairs<'a> = &'a [(&'a str, String)];
        let cases: [(&str, Pairs<'_>, Pairs<'_>, &str); 3] = [
            ("/test.txt", &[], &range, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            ("/", &lifecycle, &[], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("/", &list, &[], "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ];
        for (path, query, headers, expected) in cases {
            let signed = signer.sign(UnsignedRequest {
                method: "GET",
                host: "examplebucket.s3.amazonaws.com",
                path,
                query,
                headers,
                payload: &empty,
                time: "20130524T000000Z",
            });
            let (_, value) = signed.iter().find(|(name, _)| *name == "authorization").unwrap();
            assert!(value.ends_with(&format!("Signature={expected}")), "{path}: {value}");
        }
    }
}
