//! Requests as values: built without I/O, sent in one place.

use std::sync::Arc;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a request carries.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// JSON text, or why it could not be written (told when the request is sent).
    Json(Result<bytes::Bytes, Arc<serde_json::Error>>),
}

/// One request to the Incus API.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Path, percent-encoded, from `/1.0` on, without a query.
    pub path: String,
    /// Query parameters, not encoded.
    pub query: Vec<(String, String)>,
    /// What it carries.
    pub body: Body,
    /// The ETag that the object must still have.
    pub if_match: Option<String>,
    /// Headers of its own.
    pub headers: Vec<(&'static str, String)>,
}

impl Request {
    fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::from("/1.0");
        for segment in segments {
            path.push('/');
            // A segment of dots would be resolved as a step in the tree.
            if matches!(*segment, "." | "..") {
                path.push_str(&segment.replace('.', "%2E"));
            } else {
                path.extend(utf8_percent_encode(segment, SEGMENT));
            }
        }
        Self { method, path, query: Vec::new(), body: Body::Empty, if_match: None, headers: Vec::new() }
    }

    /// `GET` of `/1.0/<segments>`; each segment is percent-encoded.
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// `DELETE` of `/1.0/<segments>`.
    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// `POST` to `/1.0/<segments>`.
    pub fn post(segments: &[&str], body: &impl Serialize) -> Self {
        Self::new(Method::POST, segments).json(body)
    }

    /// `POST` to `/1.0/<segments>` without a body of its own.
    pub fn post_empty(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// `PUT` to `/1.0/<segments>`.
    pub fn put(segments: &[&str], body: &impl Serialize) -> Self {
        Self::new(Method::PUT, segments).json(body)
    }

    /// With `body` as JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Body::Json(serde_json::to_vec(body).map(Into::into).map_err(Arc::new));
        self
    }

    /// In project `project`; without it Incus takes `default`.
    #[must_use]
    pub fn project(self, project: &str) -> Self {
        self.with("project", project)
    }

    /// With one more query parameter.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.query.retain(|(k, _)| k != key);
        self.query.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Only if the object still has this ETag.
    #[must_use]
    pub fn if_match(mut self, etag: Option<String>) -> Self {
        self.if_match = etag;
        self
    }

    /// The project that the request speaks about: its query, else `default`.
    pub fn project_name(&self) -> &str {
        self.query.iter().find(|(key, _)| key == "project").map_or("default", |(_, value)| value)
    }

    /// Whether it changes nothing on the server.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// The scopes whose lists are stale once this write ran: the project it names, and the one it is about. A custom volume
    /// that is made or deleted touches only [`volumes_of`] its project.
    pub(crate) fn scopes(&self) -> Vec<String> {
        if self.makes_or_deletes_a_volume() {
            return vec![volumes_of(self.project_name())];
        }
        let mut scopes = vec![self.project_name().to_owned()];
        if let Some(name) = self.path.strip_prefix("/1.0/projects/") {
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
            if !scopes.contains(&name) {
                scopes.push(name);
            }
        }
        scopes
    }

    fn makes_or_deletes_a_volume(&self) -> bool {
        let segments: Vec<&str> = self.path.split('/').skip(2).collect();
        match segments.as_slice() {
            ["storage-pools", _, "volumes", "custom"] => self.method == Method::POST,
            ["storage-pools", _, "volumes", "custom", _] => self.method == Method::DELETE,
            _ => false,
        }
    }

    /// Path and query as they go over the wire.
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (index, (key, value)) in self.query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.extend(utf8_percent_encode(key, SEGMENT));
            target.push('=');
            target.extend(utf8_percent_encode(value, SEGMENT));
        }
        target
    }
}

/// The scope of what may depend on the custom volumes of a project: no name of a project has a `/`.
pub(crate) fn volumes_of(project: &str) -> String {
    format!("{project}/volumes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_query_are_encoded() {
        let request = Request::get(&["instances", "a/b?c d"]).project("pro&x=1");
        assert_eq!(request.target(), "/1.0/instances/a%2Fb%3Fc%20d?project=pro%26x%3D1");
    }

    #[test]
    fn a_segment_of_dots_does_not_climb() {
        assert_eq!(Request::get(&["instances", ".."]).path, "/1.0/instances/%2E%2E");
    }

    #[test]
    fn a_write_about_a_project_touches_its_scope_too() {
        assert_eq!(Request::delete(&["projects", "pro"]).scopes(), ["default", "pro"]);
        assert_eq!(Request::delete(&["instances", "a"]).project("pro").scopes(), ["pro"]);
    }

    #[test]
    fn a_volume_that_is_made_or_deleted_touches_no_more_than_it_changes() {
        let volumes = ["storage-pools", "default", "volumes", "custom"];
        let one = [volumes.as_slice(), &["data"]].concat();
        let body = serde_json::json!({});
        assert_eq!(Request::post(&volumes, &body).project("pro").scopes(), ["pro/volumes"]);
        assert_eq!(Request::delete(&one).project("pro").scopes(), ["pro/volumes"]);
        // A new name changes the devices of its users.
        assert_eq!(Request::post(&one, &body).project("pro").scopes(), ["pro"]);
    }

    #[test]
    fn a_parameter_given_twice_keeps_the_last_value() {
        assert_eq!(Request::get(&["instances"]).project("a").project("b").target(), "/1.0/instances?project=b");
    }
}
