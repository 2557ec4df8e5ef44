//! Who may call at all, before anybody says who they are: from which networks, by which names of the
//! relay, and from pages of which sites.

use std::net::SocketAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use ipnet::IpNet;

use super::Config;

/// What is asked of callers.
#[derive(Debug)]
pub(super) struct Callers {
    /// The networks that may connect; all if there are none.
    networks: Vec<IpNet>,
    /// The names of the relay, beside those of this machine.
    hosts: Vec<String>,
    /// The hosts of sites whose pages may connect.
    origins: Vec<String>,
}

impl Callers {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            networks: config.behind_proxy.clone(),
            hosts: config.hosts.iter().map(|host| host.to_lowercase()).collect(),
            origins: config.origins.iter().map(|host| host.to_lowercase()).collect(),
        }
    }

    /// Whether somebody from there may connect.
    pub(super) fn may_connect(&self, remote: SocketAddr) -> bool {
        let address = remote.ip().to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&address))
    }

    /// Refuses pages of other sites, and names that are not the relay's. Browsers let any page open a
    /// WebSocket to any machine, and say whose page it is; a page whose name leads to this machine by
    /// a trick says that name.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if !self.hosts.is_empty()
            && let Some(named) = text(HOST)
        {
            let host = format!("http://{named}").parse::<Uri>().ok();
            if !host.as_ref().and_then(Uri::host).is_some_and(|host| self.is_own(host)) {
                return Err(
                    "this relay has another name; name it with --host if it is its own".to_owned()
                );
            }
        }
        let Some(origin) = text(ORIGIN) else { return Ok(()) };
        match self.is_own_origin(origin) {
            true => Ok(()),
            false => {
                Err("this relay takes no pages of this site; connect without an Origin, from a \
                      page on this machine, or name the site's host with --origin"
                    .to_owned())
            }
        }
    }

    /// Whether pages of an origin may connect.
    pub(super) fn is_own_origin(&self, origin: &str) -> bool {
        let origin = origin.parse::<Uri>().ok();
        let host = origin.as_ref().and_then(Uri::host).map(str::to_lowercase);
        host.is_some_and(|host| self.is_own(&host) || self.origins.contains(&host))
    }

    fn is_own(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || self.hosts.contains(&host)
    }
}
