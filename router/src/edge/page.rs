//! The chat page, embedded: every file of `page/`, with its type and a tag by which browsers keep it.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

/// Only our own scripts, styles and images, and WebSockets to this host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of `page/`.
pub struct Asset {
    /// Below `/`; the page itself is `index.html`.
    pub path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// A strong validator: the files' names do not change with their content.
    etag: HeaderValue,
}

macro_rules! assets {
    ($($path:literal: $content_type:literal,)*) => {
        [$(Asset::new($path, $content_type, include_bytes!(concat!("../../page/", $path))),)*]
    };
}

/// All of `page/`; a test fails where a file is not listed.
pub static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    Vec::from(assets! {
        "index.html": "text/html; charset=utf-8",
        "app.js": "text/javascript; charset=utf-8",
        "chat-view.js": "text/javascript; charset=utf-8",
        "client.js": "text/javascript; charset=utf-8",
        "connection.js": "text/javascript; charset=utf-8",
        "conversation-view.js": "text/javascript; charset=utf-8",
        "dom.js": "text/javascript; charset=utf-8",
        "favicon.svg": "image/svg+xml",
        "icons.js": "text/javascript; charset=utf-8",
        "ids.js": "text/javascript; charset=utf-8",
        "list-view.js": "text/javascript; charset=utf-8",
        "log.js": "text/javascript; charset=utf-8",
        "memory.js": "text/javascript; charset=utf-8",
        "outbox.js": "text/javascript; charset=utf-8",
        "session.js": "text/javascript; charset=utf-8",
        "sign-in-view.js": "text/javascript; charset=utf-8",
        "style.css": "text/css; charset=utf-8",
        "tick.js": "text/javascript; charset=utf-8",
        "time.js": "text/javascript; charset=utf-8",
    })
});

impl Asset {
    fn new(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let tag: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("hex digits in quotes are a valid header");
        Self { path, content_type, bytes, etag }
    }

    pub fn respond(&self, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, HeaderValue); 6] = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if self.matches(request) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, Bytes::from_static(self.bytes)).into_response()
    }

    fn matches(&self, request: &HeaderMap) -> bool {
        let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        known.is_some_and(|known| {
            known.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.trim_start_matches("W/").as_bytes() == self.etag.as_bytes()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let mut on_disk: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        let mut embedded: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        on_disk.sort();
        embedded.sort();
        assert_eq!(on_disk, embedded, "list every file of page/ in ASSETS");
    }

    #[test]
    fn a_browser_that_has_the_file_is_not_sent_it_again() {
        let asset = &ASSETS[0];
        let first = asset.respond(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut again = HeaderMap::new();
        again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(asset.respond(&again).status(), StatusCode::NOT_MODIFIED);
        again.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(asset.respond(&again).status(), StatusCode::OK);
    }
}
