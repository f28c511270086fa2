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
    ($($path:literal,)*) => {
        [$(Asset::new($path, include_bytes!(concat!("../../page/", $path))),)*]
    };
}

/// All of `page/` but its tests; a test fails where a file is not listed.
pub static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    Vec::from(assets! {
        "index.html",
        "app.js",
        "favicon.svg",
        "client/actions.js",
        "client/blocks.js",
        "client/client.js",
        "client/connection.js",
        "client/conversations.js",
        "client/history.js",
        "client/inbox.js",
        "client/intake.js",
        "client/marker.js",
        "client/members.js",
        "client/memory.js",
        "client/names.js",
        "client/outbox.js",
        "client/patience.js",
        "client/presence.js",
        "client/sender.js",
        "client/session.js",
        "client/typing.js",
        "model/conversation.js",
        "model/group-text.js",
        "model/ids.js",
        "model/log.js",
        "model/mentions.js",
        "model/progress.js",
        "model/refusals.js",
        "model/revise.js",
        "model/timeline.js",
        "model/watermarks.js",
        "style/base.css",
        "style/composer.css",
        "style/message.css",
        "style/overlay.css",
        "style/panes.css",
        "style/sign-in.css",
        "style/thread.css",
        "view/chat-view.js",
        "view/composer.js",
        "view/conversation-bar.js",
        "view/conversation-view.js",
        "view/dialog.js",
        "view/dom.js",
        "view/group-dialog.js",
        "view/icons.js",
        "view/list-view.js",
        "view/members-dialog.js",
        "view/menu.js",
        "view/message-item.js",
        "view/message-menu.js",
        "view/people-input.js",
        "view/profile-dialog.js",
        "view/sign-in-view.js",
        "view/thread.js",
        "view/tick.js",
        "view/time.js",
        "view/words.js",
    })
});

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

impl Asset {
    pub fn new(path: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let tag: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("hex digits in quotes are a valid header");
        Self { path, content_type: content_type(path), bytes, etag }
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
    use std::path::Path;

    use super::*;

    /// Beside the page: its tests, and what they need to be read as modules.
    const NOT_SERVED: [&str; 2] = ["tests", "package.json"];

    fn list(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name.starts_with('.') || NOT_SERVED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                list(&path, root, found);
            } else {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/page"));
        let mut on_disk = Vec::new();
        list(folder, folder, &mut on_disk);
        let mut embedded: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        on_disk.sort();
        embedded.sort();
        assert_eq!(on_disk, embedded, "list every file of page/ in ASSETS");
    }

    #[test]
    fn every_file_has_a_type_that_browsers_take() {
        // They run no script and apply no style of another type.
        assert!(ASSETS.iter().all(|asset| asset.content_type != "application/octet-stream"));
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
