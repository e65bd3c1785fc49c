//! The real transport: reqwest over rustls with the roots that the caller names and no others.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{Instrument as _, field};

use super::proxy::{self, Proxy};
use super::{Options, Request, Response, Transport, TransportError};

/// Whom to believe: the public roots linked into the program, and what is named beside them.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    extra: Vec<CertificateDer<'static>>,
}

/// The authorities of this installation, which everything outside may be under.
static OURS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();

/// Has this process trust every certificate of `pem`, too, before its first transport is made.
///
/// # Errors
/// The text holds no certificate or a broken one.
pub fn trust_too(pem: &str) -> Result<(), String> {
    let ours = Trust::with_pem(pem)?;
    // Whether a root can be used shows when it is added.
    ours.clone().client_config()?;
    // A second setting of the same program is the same: both come from its environment.
    let _ = OURS.set(ours.extra);
    Ok(())
}

impl Trust {
    /// The public roots alone.
    #[must_use]
    pub fn public() -> Self {
        Self::default()
    }

    /// The public roots and every certificate of `pem`, for example a company's own root.
    ///
    /// # Errors
    /// The text holds no certificate or a broken one.
    pub fn with_pem(pem: &str) -> Result<Self, String> {
        let extra = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("not a PEM certificate: {error}"))?;
        if extra.is_empty() {
            return Err("no PEM certificate in it: it must hold at least one BEGIN CERTIFICATE block".to_owned());
        }
        Ok(Self { extra })
    }

    /// The TLS settings with these roots; nothing of the machine is asked.
    pub(crate) fn client_config(self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let ours = OURS.get().into_iter().flatten().cloned();
        for certificate in self.extra.into_iter().chain(ours) {
            roots.add(certificate).map_err(|error| format!("a root certificate is not usable: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Which addresses may be connected to, checked after the name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Any: for the hosts that the configuration names.
    Any,
    /// Public ones only, for addresses that come in from outside (attachments); `except` is a host
    /// name or literal address that is let through all the same (the overridden MAX host in tests).
    PublicOnly { except: Option<String> },
}

/// reqwest without redirects, proxies of the environment or retries.
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    addresses: Addresses,
    proxy: Option<Proxy>,
}

impl ReqwestTransport {
    /// To external systems: through the proxy that the settings name, if they name one.
    ///
    /// # Errors
    /// A root certificate is not usable.
    pub fn external(trust: Trust, addresses: Addresses) -> Result<Self, String> {
        Self::through(proxy::in_force().cloned(), trust, addresses)
    }

    /// To what is ours, relays and collectors for instance: never through a proxy.
    ///
    /// # Errors
    /// A root certificate is not usable.
    pub fn direct(trust: Trust) -> Result<Self, String> {
        Self::through(None, trust, Addresses::Any)
    }

    fn through(proxy: Option<Proxy>, trust: Trust, addresses: Addresses) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(trust.client_config()?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // Those of the environment.
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("maxchannel/", env!("CARGO_PKG_VERSION")));
        if let Addresses::PublicOnly { except } = &addresses {
            builder = builder.dns_resolver(Arc::new(PublicResolver { except: except.clone() }));
        }
        if let Some(proxy) = &proxy {
            builder = builder.proxy(proxy.for_reqwest());
        }
        let client = builder.build().map_err(|error| format!("the HTTP client cannot be built: {error}"))?;
        Ok(Self { client, addresses, proxy })
    }

    /// Behind a proxy it is the proxy that resolves the name, so it is checked here before: a name
    /// that cannot be resolved here cannot be checked, and is not called.
    async fn check_behind_proxy(&self, host: &str, deadline: tokio::time::Instant) -> Result<(), TransportError> {
        let Addresses::PublicOnly { except } = &self.addresses else { return Ok(()) };
        let bare = host.trim_matches(['[', ']']);
        if bare.parse::<IpAddr>().is_ok()
            || except.as_deref() == Some(host)
            || !self.proxy.as_ref().is_some_and(|proxy| proxy.serves(bare))
        {
            return Ok(());
        }
        let unknown = |reason: String| TransportError::NotSent { host: host.to_owned(), reason };
        let found = tokio::time::timeout_at(deadline, tokio::net::lookup_host((bare, 0)))
            .await
            .map_err(|_| unknown("its name was not resolved in time".to_owned()))?
            .map_err(|error| unknown(format!("its name cannot be resolved here and so not be checked: {error}")))?;
        if found.into_iter().all(|address| is_public(address.ip())) {
            Ok(())
        } else {
            Err(TransportError::PrivateAddress { host: host.to_owned() })
        }
    }

    async fn exchange(&self, request: Request, options: Options) -> Result<Response, TransportError> {
        let host =
            request.uri().authority().map_or_else(|| "(no host)".to_owned(), |authority| authority.host().to_owned());
        if let Addresses::PublicOnly { except } = &self.addresses
            && let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>()
            && except.as_deref() != Some(host.as_str())
            && !is_public(address)
        {
            return Err(TransportError::PrivateAddress { host });
        }
        let deadline = tokio::time::Instant::now() + options.timeout;
        self.check_behind_proxy(&host, deadline).await?;
        let (parts, body) = request.into_parts();
        let mut outgoing = reqwest::Request::new(
            parts.method,
            parts.uri.to_string().parse().map_err(|_| TransportError::NotSent {
                host: host.clone(),
                reason: "the address is not a valid URL".to_owned(),
            })?,
        );
        *outgoing.headers_mut() = parts.headers;
        *outgoing.body_mut() = Some(body.into());
        let timed_out = || TransportError::Lost {
            host: host.clone(),
            reason: format!("no whole answer within {} ms", options.timeout.as_millis()),
        };
        let answer = tokio::time::timeout_at(deadline, self.client.execute(outgoing))
            .await
            .map_err(|_| timed_out())?
            .map_err(|error| classify(&host, &error))?;
        let mut built = http::Response::builder().status(answer.status());
        if let Some(headers) = built.headers_mut() {
            *headers = answer.headers().clone();
        }
        let mut whole = BytesMut::new();
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = tokio::time::timeout_at(deadline, stream.next()).await.map_err(|_| timed_out())? {
            let chunk = chunk.map_err(|error| classify(&host, &error))?;
            if whole.len() + chunk.len() > options.max_answer {
                return Err(TransportError::TooLarge { host, limit: options.max_answer });
            }
            whole.extend_from_slice(&chunk);
        }
        built.body(whole.freeze()).map_err(|error: http::Error| TransportError::Lost {
            host,
            reason: format!("an answer that is not HTTP: {error}"),
        })
    }
}

impl Transport for ReqwestTransport {
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        // What can be told of any address: a path or query may hold ids and keys.
        let span = tracing::debug_span!(
            "call",
            otel.kind = "client",
            http.request.method = %request.method(),
            server.address = request.uri().host().unwrap_or_default(),
            http.response.status_code = field::Empty,
            error.type = field::Empty,
        );
        let told = span.clone();
        let exchange = async move {
            let outcome = self.exchange(request, options).await;
            match &outcome {
                Ok(answer) => told.record("http.response.status_code", answer.status().as_u16()),
                Err(error) => told.record("error.type", error.kind()),
            };
            outcome
        };
        Box::pin(exchange.instrument(span))
    }
}

/// The words of the innermost cause: those of reqwest itself carry the address, which may carry
/// secrets.
fn classify(host: &str, error: &reqwest::Error) -> TransportError {
    let host = host.to_owned();
    let mut innermost: Option<&(dyn std::error::Error + 'static)> = error.source();
    let mut certificate = None;
    let mut private = false;
    while let Some(current) = innermost {
        if let Some(rustls::Error::InvalidCertificate(reason)) = rustls_error(current) {
            certificate = Some(format!("{reason:?}"));
        }
        private |= current.is::<PrivateOnly>();
        match current.source() {
            Some(next) => innermost = Some(next),
            None => break,
        }
    }
    if let Some(reason) = certificate {
        return TransportError::Certificate { host, reason };
    }
    if private {
        return TransportError::PrivateAddress { host };
    }
    let reason = innermost.map_or_else(|| "the connection broke".to_owned(), ToString::to_string);
    if error.is_connect() || error.is_builder() {
        TransportError::NotSent { host, reason }
    } else {
        TransportError::Lost { host, reason }
    }
}

/// rustls hides its error inside an `io::Error`, whose `source()` skips the error itself, and
/// hyper-rustls puts that one inside another.
fn rustls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut error = error;
    while let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        error = inner;
    }
    error.downcast_ref::<rustls::Error>()
}

struct PublicResolver {
    except: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("the name leads to a private address")]
struct PrivateOnly;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let excepted = self.except.as_deref() == Some(name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| excepted || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(PrivateOnly) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the open Internet: no loopback, private, link-local, shared,
/// documentation or multicast range (IANA special-purpose address registries).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(
            || {
                let first = v6.segments()[0];
                // 2000::/3 is all that is handed out; the NAT64 and 6to4 ranges can lead back
                // inside.
                (first & 0xe000) == 0x2000 && first != 0x2002 && !(first == 0x2001 && v6.segments()[1] == 0x0db8)
            },
            |v4| is_public(IpAddr::V4(v4)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that answers every request "204" and keeps their first lines.
    async fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, lines) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                kept.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            }
        });
        (address, lines)
    }

    async fn get(transport: &ReqwestTransport, url: &str) -> Result<u16, TransportError> {
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        transport.send(request, Options::default()).await.map(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn a_proxy_carries_what_is_outside_and_nothing_else() {
        let (proxy, asked) = server().await;
        let (own, direct) = server().await;
        let proxy = Proxy::new(&format!("http://{proxy}"), "").unwrap();
        let transport = ReqwestTransport::through(Some(proxy.clone()), Trust::public(), Addresses::Any).unwrap();
        assert_eq!(get(&transport, "http://crm.acme.example/0/odata").await, Ok(204));
        assert_eq!(get(&transport, &format!("http://{own}/status")).await, Ok(204));
        assert!(
            get(&transport, "https://crm.acme.example/").await.unwrap_err().certainly_not_sent(),
            "no tunnel is made"
        );
        assert_eq!(
            *asked.lock().unwrap(),
            ["GET http://crm.acme.example/0/odata HTTP/1.1", "CONNECT crm.acme.example:443 HTTP/1.1"]
        );
        assert_eq!(*direct.lock().unwrap(), ["GET /status HTTP/1.1"]);

        // The guard of private addresses looks at what the proxy would resolve, and at what goes
        // past it.
        let files = Addresses::PublicOnly { except: None };
        let files = ReqwestTransport::through(Some(proxy), Trust::public(), files).unwrap();
        for url in [format!("http://{own}/"), "http://localhost/".to_owned(), "http://10.1.2.3/".to_owned()] {
            let refused = get(&files, &url).await.unwrap_err();
            assert!(matches!(refused, TransportError::PrivateAddress { .. }), "{url}: {refused}");
        }
        let unknown = get(&files, "http://nobody.invalid/").await.unwrap_err();
        assert!(unknown.certainly_not_sent(), "{unknown}");
        assert_eq!((asked.lock().unwrap().len(), direct.lock().unwrap().len()), (2, 1));
    }

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
            ("2a00:1450:4010:c0f::65", true),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
