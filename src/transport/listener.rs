//! Where a half of the program is reached: an address, or every address of both families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// The kernel has no IPv6 (`EAFNOSUPPORT`, `EADDRNOTAVAIL` of Linux).
const NO_IPV6: [i32; 2] = [97, 99];

/// Listens on `address`. `[::]` stands for every address of both families, so where the kernel has
/// no IPv6 it is every IPv4 address.
///
/// # Errors
/// The address is taken, is not this machine's, or may not be used.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && error.raw_os_error().is_some_and(|code| NO_IPV6.contains(&code)) =>
        {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_is_reached_by_either_family() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for from in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(from.parse().unwrap(), port);
            tokio::net::TcpStream::connect(address).await.expect(from);
            assert!(listener.accept().await.is_ok(), "{from}");
        }
    }
}
