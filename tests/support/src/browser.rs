//! A headless Chromium, driven through its DevTools protocol: what a person at the chat page does and sees.
//!
//! Each [`Page`] has a browser context of its own, so two pages are two people: they share no storage. Actions are real
//! input events at real positions; an element that is covered or hidden cannot be clicked. Elements are named by their
//! `data-testid`.
//!
//! The browser's working folder is its temporary profile: the [`watchdog`](crate::watchdog) ends both, even after the
//! test was killed.
//!
//! Like the rest of this crate it panics where something fails or takes too long.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    devtools::{DevTools, SessionId},
    wait::{DEADLINE, eventually, within},
    watchdog::Watchdog,
};

const BINARY: &str = "chromium";
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running browser. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    devtools: DevTools,
    child: Child,
    /// After `child`: it removes the profile.
    _watchdog: Watchdog,
}

/// Whether a page has a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Online,
    /// New requests fail, and the page's WebSockets are cut.
    Offline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourScheme {
    Light,
    Dark,
}

impl Browser {
    pub async fn launch() -> Self {
        let folder = tempfile::Builder::new().prefix("tertulia-browser-").tempdir().expect("a temporary folder");
        let profile = folder.keep().canonicalize().expect("the folder was just made");
        let watchdog = Watchdog::start(&profile);
        let child = Command::new(BINARY)
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check"])
            // The sandbox refuses to run as root, and there may be no /dev/shm worth the name.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars"])
            // Several pages at once: none is to be slowed down for being behind another.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-features=Translate,MediaRouter"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .current_dir(&profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{BINARY} does not start (is it installed?): {error}"));
        // Chromium writes the port and the path of its endpoint there once it listens.
        let port_file = profile.join("DevToolsActivePort");
        let endpoint = eventually("the browser opens its DevTools port", async || {
            let text = std::fs::read_to_string(&port_file).ok()?;
            let (port, path) = text.trim().split_once('\n')?;
            Some(format!("ws://127.0.0.1:{port}{path}"))
        })
        .await;
        let devtools = DevTools::connect(&endpoint).await;
        Self { devtools, child, _watchdog: watchdog }
    }

    /// Opens a page of a new person and waits until it is loaded.
    pub async fn page(&self, url: &str) -> Page {
        let context = self.browser_call("Target.createBrowserContext", json!({})).await;
        let target =
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"], "newWindow": true });
        let target = self.browser_call("Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.browser_call("Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("an attached session has an id").to_owned();
        let page = Page { devtools: self.devtools.clone(), session: SessionId(session) };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TRACK_SOCKETS })).await;
        page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
        page.goto(url).await;
        page
    }

    async fn browser_call(&self, method: &str, parameters: Value) -> Value {
        self.devtools.call(None, method, parameters).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// DevTools takes the network away from new connections only: the page's open WebSockets are closed from inside, and the
/// page's own code sees a connection that went.
const TRACK_SOCKETS: &str = r"
    const Original = window.WebSocket;
    const open = new Set();
    window.WebSocket = class extends Original {
        constructor(...parameters) {
            super(...parameters);
            open.add(this);
            this.addEventListener('close', () => open.delete(this));
        }
    };
    Object.defineProperty(window, '__cutSockets', { value: () => open.forEach((socket) => socket.close(3000)) });
";

/// One window of one person.
#[derive(Debug)]
pub struct Page {
    devtools: DevTools,
    session: SessionId,
}

impl Page {
    pub async fn goto(&self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(answer.get("errorText").is_none(), "{url}: {}", answer["errorText"]);
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    pub async fn reload(&self) {
        // The old document may still be there and complete for a moment: a mark in it tells.
        self.eval::<Value>("window.__old = true").await;
        self.call("Page.reload", json!({})).await;
        self.wait_for("!window.__old && document.readyState === 'complete'").await;
    }

    /// The value of an expression; a promise is awaited.
    pub async fn eval<T: DeserializeOwned>(&self, expression: &str) -> T {
        let value = self.try_eval(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{expression} is of another type: {error}"))
    }

    /// Waits until an expression is truthy.
    pub async fn wait_for(&self, condition: &str) {
        self.wait_for_within(condition, DEADLINE).await;
    }

    /// Waits until an expression is truthy; panics with what the page shows where that takes too long.
    pub async fn wait_for_within(&self, condition: &str, limit: Duration) {
        let polling = async {
            // An error is "not yet" too: during a navigation there is no document to ask.
            while !self.try_eval(&format!("Boolean({condition})")).await.is_ok_and(|value| value == true) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(limit, polling).await.is_err() {
            let shown = self.try_eval("document.body?.innerText").await.unwrap_or_default();
            panic!(
                "after {limit:?} still not: {condition}\nthe page shows: {shown}\nits errors: {:?}",
                self.errors().await
            );
        }
    }

    /// Replaces the text of a field as by typing.
    pub async fn fill(&self, testid: &str, text: &str) {
        self.wait_for(&format!("{}?.getClientRects().length", element(testid))).await;
        self.eval::<Value>(&format!(
            "(({{ focus }}) => focus)({{ focus: ({0}.focus(), {0}.select()) }})",
            element(testid)
        ))
        .await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key in the focused element: `Enter`, `Escape`, `Tab`, `ArrowDown`, ….
    pub async fn press(&self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            other => panic!("no key code is known for {other}"),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", event.clone()).await;
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event).await;
    }

    /// Clicks the first element of this name once it is there and nothing covers it.
    pub async fn click(&self, testid: &str) {
        self.click_on(&element(testid)).await;
    }

    /// Clicks the element that an expression gives.
    pub async fn click_on(&self, expression: &str) {
        let place = format!(
            "(() => {{
                const found = {expression};
                if (!found) return null;
                found.scrollIntoView({{ block: 'nearest' }});
                const {{ left, top, width, height }} = found.getBoundingClientRect();
                const [x, y] = [left + width / 2, top + height / 2];
                return found.contains(document.elementFromPoint(x, y)) ? {{ x, y }} : null;
            }})()"
        );
        let point = within(&format!("{expression} can be clicked"), DEADLINE, async {
            loop {
                match self.try_eval(&place).await {
                    Ok(point) if point.is_object() => return point,
                    _ => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        })
        .await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": point["x"], "y": point["y"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    pub async fn set_network(&self, network: Network) {
        let offline = network == Network::Offline;
        let conditions = json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        self.call("Network.emulateNetworkConditions", conditions).await;
        if offline {
            self.eval::<Value>("window.__cutSockets() ?? null").await;
        }
    }

    /// In CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn prefer(&self, scheme: ColourScheme) {
        let value = match scheme {
            ColourScheme::Light => "light",
            ColourScheme::Dark => "dark",
        };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// Writes a PNG of what is in view, once nothing moves; makes the folder.
    pub async fn screenshot(&self, path: &Path) {
        let settled = "Promise.allSettled(document.getAnimations().map((it) => it.finished)).then(() => true)";
        self.eval::<bool>(settled).await;
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let image = decode_base64(answer["data"].as_str().expect("a screenshot is text"));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder can be made");
        }
        std::fs::write(path, image).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What the page logged as an error, and the exceptions that nobody caught, since it was opened.
    pub async fn errors(&self) -> Vec<String> {
        self.devtools.errors(&self.session).await
    }

    async fn try_eval(&self, expression: &str) -> anyhow::Result<Value> {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true });
        let answer = self.devtools.call(Some(&self.session), "Runtime.evaluate", parameters).await?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(anyhow::anyhow!("{details}")),
            None => Ok(answer["result"].get("value").cloned().unwrap_or(Value::Null)),
        }
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        let answer = self.devtools.call(Some(&self.session), method, parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

fn element(testid: &str) -> String {
    format!("document.querySelector('[data-testid=\"{testid}\"]')")
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |character: u8| match character {
        b'A'..=b'Z' => u32::from(character - b'A'),
        b'a'..=b'z' => u32::from(character - b'a') + 26,
        b'0'..=b'9' => u32::from(character - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit of base64"),
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let value = group.iter().fold(0, |value, digit| value << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&value.to_be_bytes()[1..group.len()]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_with_every_length_of_the_last_group() {
        assert_eq!(decode_base64(""), b"");
        assert_eq!(decode_base64("aA=="), b"h");
        assert_eq!(decode_base64("aGk="), b"hi");
        assert_eq!(decode_base64("aGkh"), b"hi!");
        assert_eq!(decode_base64("+/+/"), [0xfb, 0xff, 0xbf]);
    }
}
