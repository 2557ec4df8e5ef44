//! `POST /ticket`: who has a token gets a ticket for an app of automerge-repo.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::command::Protocol;
use super::doors::Doors;
use super::driver::unix_ms;
use super::http::Shared;
use super::tickets::Tickets;
use crate::access::{Principal, TokenError};

/// Gives tickets and takes them, where there are rules of who may come in.
#[derive(Clone, Default)]
pub(super) struct TicketOffice(Option<Open>);

#[derive(Clone)]
struct Open {
    tickets: Tickets,
    doors: watch::Receiver<Doors>,
    /// Asks for the keys of the login.
    unknown: mpsc::Sender<()>,
}

impl std::fmt::Debug for TicketOffice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "TicketOffice(open)" } else { "TicketOffice(closed)" })
    }
}

impl TicketOffice {
    pub(super) fn open(
        tickets: Tickets,
        doors: watch::Receiver<Doors>,
        unknown: mpsc::Sender<()>,
    ) -> Self {
        Self(Some(Open { tickets, doors, unknown }))
    }

    /// Who an app is by the ticket in the address that it dials. Replicas say it in their first frame.
    pub(super) fn ticket_of(
        &self,
        protocol: &Protocol,
        request: &Request,
    ) -> Result<Option<Principal>, TokenError> {
        let (Some(open), true) = (&self.0, *protocol != Protocol::Rejoin) else { return Ok(None) };
        let query = request.uri().query().unwrap_or_default();
        let ticket = query.split('&').find_map(|part| part.strip_prefix("ticket="));
        let ticket = ticket.ok_or(TokenError::Missing)?;
        let login = Arc::clone(&open.doors.borrow().login);
        open.tickets.read(ticket, origin(request.headers()), &login, unix_ms() / 1000).map(Some)
    }
}

impl Open {
    /// Reads a token. If its key is not known, the login is asked once.
    async fn read(&mut self, token: &str) -> Result<Principal, TokenError> {
        let read =
            |doors: &Doors| (doors.verify(token.as_bytes(), unix_ms() / 1000), doors.may_ask);
        self.doors.mark_unchanged();
        match read(&self.doors.borrow()) {
            (Err(TokenError::UnknownKey), true) => {}
            (read, _) => return read,
        }
        let _ = self.unknown.try_send(());
        let _ = timeout(KEYS_WAIT, self.doors.changed()).await;
        read(&self.doors.borrow()).0
    }
}

/// Gives a ticket for the token in the header `Authorization: Bearer`.
pub(super) async fn give(State(shared): State<Shared>, request: Request) -> Response {
    let headers = request.headers();
    let origin = origin(headers).map(str::to_owned);
    let answer = async {
        if let Err(text) = shared.callers.check(headers) {
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        let Some(mut open) = shared.office.0.clone() else {
            let text = "this relay lets everybody in, and needs no tickets";
            return (StatusCode::NOT_FOUND, text).into_response();
        };
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        let read = match token {
            Some(token) => open.read(token.trim()).await,
            None => Err(TokenError::Missing),
        };
        match read {
            Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
            // A page cannot show that it is on a certain device.
            Ok(principal) if principal.device.is_some() => {
                (StatusCode::FORBIDDEN, TokenError::Device.to_string()).into_response()
            }
            Ok(principal) => {
                let login = Arc::clone(&open.doors.borrow().login);
                let ticket = open.tickets.give(&principal, origin.as_deref(), &login);
                let body = serde_json::json!({ "ticket": ticket, "expires": principal.expires_s });
                let json = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
                (json, body.to_string()).into_response()
            }
        }
    };
    let answer = answer.await;
    for_pages(answer, &shared, origin.as_deref())
}

/// Tells a browser that the page may ask.
pub(super) async fn may_ask(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut answer = match shared.callers.check(&headers) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(text) => (StatusCode::FORBIDDEN, text).into_response(),
    };
    let more = answer.headers_mut();
    more.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    more.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization"));
    for_pages(answer, &shared, origin(&headers))
}

/// A browser shows an answer only to pages of the origin that it names.
fn for_pages(mut answer: Response, shared: &Shared, origin: Option<&str>) -> Response {
    let is_allowed = |origin: &&str| shared.callers.is_own_origin(origin);
    let allowed = origin.filter(is_allowed).and_then(|origin| HeaderValue::from_str(origin).ok());
    if let Some(allowed) = allowed {
        answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
    answer
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(ORIGIN).map(|value| value.to_str().unwrap_or_default())
}

/// The time that the keys of the login may take.
const KEYS_WAIT: Duration = Duration::from_secs(6);
