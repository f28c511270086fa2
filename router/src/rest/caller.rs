//! Who asks: a user by their token, or the app's back end by an API key. Checked before anything else of a request is
//! looked at; nobody unknown gets any other answer than 401.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use tertulia_shard_map::UserId;
use tertulia_wire::{
    TraceId,
    client::{Command, ErrorCode},
    cluster::Authority,
};

use super::{
    Api, Left, Problem,
    admission::{Account, Place},
    cluster::{Ask, FromReply},
};
use crate::{
    auth::{Identity, TokenError},
    commands::Caller,
    session::unix_ms,
};

/// The sender of what the app itself says: 26 zeros.
pub const APP: UserId = UserId::from_u128(0);

/// A user with a valid token, who is not disabled.
pub struct AsUser {
    pub identity: Identity,
    call: Caller,
    api: Api,
    trace: Option<TraceId>,
    left: Option<Left>,
    _place: Place,
}

/// The app's back end.
pub struct AsApp {
    api: Api,
    trace: Option<TraceId>,
    left: Option<Left>,
    _place: Place,
}

impl AsUser {
    pub fn id(&self) -> UserId {
        self.identity.user
    }

    pub fn ask(&self) -> Ask<'_> {
        self.api.ask(self.trace, self.left.as_ref())
    }

    pub async fn command<T: FromReply>(&self, command: Command) -> Result<T, Problem> {
        self.ask().command(&self.call, command).await
    }
}

impl AsApp {
    pub fn ask(&self) -> Ask<'_> {
        self.api.ask(self.trace, self.left.as_ref())
    }

    /// On the app's word, in the name of a user or of the app itself.
    pub async fn command<T: FromReply>(&self, sender: Option<UserId>, command: Command) -> Result<T, Problem> {
        let caller = Caller { user: sender.unwrap_or(APP), session: None, authority: Authority::App };
        self.ask().command(&caller, command).await
    }

    /// Has a change of who may sign in felt at once, as far as this router goes.
    pub fn changed(&self, user: UserId) {
        self.api.sign_ins.forget(user);
    }
}

impl FromRequestParts<Api> for AsUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let admitted = api.admission.admit()?;
        let token = bearer(&parts.headers)?;
        let identity = api.shared.verifier.verify(token, unix_ms()).map_err(|error| {
            let code = match error {
                TokenError::Expired => ErrorCode::TokenExpired,
                _ => ErrorCode::Unauthorized,
            };
            Problem::new(code, error.to_string())
        })?;
        let place = api.admission.place(admitted, Account::User(identity.user))?;
        let trace = parts.extensions.get::<TraceId>().copied();
        api.sign_ins.check(&api.ask(trace, None), &identity).await?;
        let call = Caller { user: identity.user, session: None, authority: Authority::Member };
        let left = parts.extensions.get::<Left>().cloned();
        Ok(Self { identity, call, api: api.clone(), trace, left, _place: place })
    }
}

impl FromRequestParts<Api> for AsApp {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let admitted = api.admission.admit()?;
        let Some((key, name)) = api.keys.find(bearer(&parts.headers)?) else {
            return Err(Problem::new(ErrorCode::Unauthorized, "this is no API key of this cluster"));
        };
        let place = api.admission.place(admitted, Account::ApiKey(key))?;
        tracing::debug!(key = name, method = %parts.method, "the app asks");
        let (trace, left) = (parts.extensions.get::<TraceId>().copied(), parts.extensions.get::<Left>().cloned());
        Ok(Self { api: api.clone(), trace, left, _place: place })
    }
}

/// The one token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::new(ErrorCode::Unauthorized, "want one header Authorization: Bearer and a token"));
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty());
    let Some((_, token)) = token else {
        return Err(Problem::new(ErrorCode::Unauthorized, "want Authorization: Bearer and a token"));
    };
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn a_token_comes_in_one_bearer_header() {
        assert_eq!(token(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["bearer  abc "]).as_deref(), Some("abc"));
        for wrong in [&[][..], &[""], &["abc"], &["Bearer"], &["Bearer "], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(token(wrong), None, "{wrong:?}");
        }
    }
}
