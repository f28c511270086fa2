//! The reference page, `/docs`: shows `/v1/openapi.json` to people. Our own and small: what the registry has of such pages
//! embeds megabytes of script, or loads them from elsewhere.

use std::sync::LazyLock;

use axum::{Router, http::HeaderMap, routing::get};

use crate::edge::Asset;

static ASSETS: LazyLock<[(&str, Asset); 3]> = LazyLock::new(|| {
    [
        ("/docs", Asset::new("index.html", include_bytes!("../../reference/index.html"))),
        ("/docs/reference.js", Asset::new("reference.js", include_bytes!("../../reference/reference.js"))),
        ("/docs/reference.css", Asset::new("reference.css", include_bytes!("../../reference/reference.css"))),
    ]
});

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, (path, asset)| {
        router.route(path, get(move |headers: HeaderMap| async move { asset.respond(&headers) }))
    })
}

#[cfg(test)]
mod tests {
    use tertulia_wire::client::ErrorCode;

    use crate::rest::problem::status;

    /// The `type` of a problem leads here.
    #[test]
    fn the_page_explains_every_error_code() {
        let page = include_str!("../../reference/index.html");
        for code in ErrorCode::ALL {
            let row =
                format!(r#"<tr id="{}"><td><code>{0}</code></td><td>{}</td>"#, code.as_str(), status(code).as_u16());
            assert!(page.contains(&row), "{row}");
        }
    }
}
