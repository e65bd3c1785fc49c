//! Real TLS on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use url::Url;

use super::super::*;
use super::TOKEN;
use crate::transport::{Options, TransportError};

/// A server with a certificate for 127.0.0.1 under a root of its own, which answers one GET /me on
/// each of `connections`.
fn server(connections: usize) -> (Url, String, JoinHandle<()>) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..connections {
            let (socket, _) = listener.accept().unwrap();
            let stream = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), socket);
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            // A client that does not trust us hangs up in the handshake: then there is nothing to
            // read.
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = r#"{"user_id":254700011,"first_name":"x","is_bot":true}"#;
            let _ = write!(
                reader.get_mut(),
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (base_url, root_pem, thread)
}

fn client(base_url: &Url, ca_pem: Option<&str>) -> Client {
    let (api, files) = transports(true, ca_pem, base_url).unwrap();
    Client::new(api, files, Settings { base_url: base_url.clone(), token: TOKEN.to_owned().into() })
}

#[tokio::test]
async fn a_server_under_an_unknown_root_is_not_spoken_to_until_its_root_is_given() {
    let (base_url, root_pem, thread) = server(3);
    let (api, _) = transports(true, None, &base_url).unwrap();
    let request = http::Request::get(base_url.join("/me").unwrap().as_str()).body(bytes::Bytes::new()).unwrap();
    let error = api.send(request, Options::default()).await.unwrap_err();
    assert!(matches!(error, TransportError::Certificate { .. }), "{error}");

    let error = client(&base_url, None).me().await.unwrap_err();
    assert_eq!((error.class(), error.may_have_been_sent()), (&Class::Transient, false));
    assert!(error.message().contains("certificate"), "{error}");

    assert_eq!(client(&base_url, Some(&root_pem)).me().await.unwrap().user_id, 254_700_011);
    thread.join().unwrap();
}

#[tokio::test]
async fn files_are_fetched_from_a_private_address_only_where_the_api_was_put_there_for_tests() {
    let (base_url, root_pem, thread) = server(1);
    let me = base_url.join("/me").unwrap();
    for (overridden, class) in [(false, Some(Class::ForbiddenAddress)), (true, None)] {
        let (api, files) = transports(overridden, Some(&root_pem), &base_url).unwrap();
        let client = Client::new(api, files, Settings { base_url: base_url.clone(), token: TOKEN.to_owned().into() });
        assert_eq!(client.download(&me, 4096).await.err().map(|error| error.class().clone()), class);
    }
    thread.join().unwrap();
}

#[tokio::test]
async fn an_authority_of_the_installation_is_trusted_by_every_client() {
    let (base_url, root_pem, thread) = server(2);
    client(&base_url, None).me().await.unwrap_err();
    for pem in ["", "not a certificate"] {
        assert!(crate::transport::trust_too(pem).is_err(), "{pem:?}");
    }
    crate::transport::trust_too(&root_pem).unwrap();
    assert_eq!(client(&base_url, None).me().await.unwrap().user_id, 254_700_011);
    thread.join().unwrap();
}

#[test]
fn the_ministry_root_is_the_published_one() {
    let pem = include_str!("../russian_trusted_root_ca.pem");
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(certificates.len(), 1);
    let fingerprint: Vec<String> = Sha256::digest(&certificates[0]).iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(
        fingerprint.join(":"),
        "D2:6D:2D:02:31:B7:C3:9F:92:CC:73:85:12:BA:54:10:35:19:E4:40:5D:68:B5:BD:70:3E:97:88:CA:8E:CF:31"
    );
}

#[test]
fn a_broken_certificate_setting_is_said_so() {
    let base_url: Url = DEFAULT_BASE_URL.parse().unwrap();
    for pem in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(transports(false, Some(pem), &base_url).is_err(), "{pem}");
    }
}
