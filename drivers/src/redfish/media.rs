//! Virtual media (DSP0268 VirtualMedia): insert and eject, in whichever form this BMC accepts.
//!
//! Media of the system come before those of its BMC. Whatever is in the drive is ejected first, also when it is the same
//! image: BMCs show media as inserted that the machine cannot read any more.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::error::RedfishError;
use super::quirks::Flags;
use super::resource::{self, Resource};
use super::system::RedfishSystem;

/// Tries of an insert that fails with a server error (an eject still under way, mostly).
const INSERT_TRIES: u32 = 3;

/// Words with which BMCs refuse to eject nothing.
const NOTHING_IN_IT: [&str; 6] = ["NoMedia", "No Virtual Media", "VRM0009", "not attached", "not inserted", "not connected"];

/// Kind of drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// CD or DVD.
    Cd,
    /// USB stick.
    Usb,
    /// Floppy.
    Floppy,
}

impl MediaKind {
    /// `MediaTypes` that fit, letter case aside. Some BMCs (Cisco) know DVDs only.
    fn fits(self, types: &[String]) -> bool {
        let names: &[&str] = match self {
            Self::Cd => &["CD", "DVD"],
            Self::Usb => &["USBStick", "USB"],
            Self::Floppy => &["Floppy"],
        };
        types.iter().any(|t| names.iter().any(|n| t.eq_ignore_ascii_case(n)))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cd => "CD or DVD",
            Self::Usb => "USB",
            Self::Floppy => "floppy",
        }
    }
}

/// A drive as the BMC tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaState {
    /// Path of the resource.
    pub path: String,
    /// `MediaTypes`.
    pub types: Vec<String>,
    /// Whether something is in it.
    pub inserted: bool,
    /// What (a URL, or a file name with some BMCs).
    pub image: Option<String>,
}

impl RedfishSystem {
    /// All drives: of the system where it has some, else of its BMCs.
    pub async fn media(&self) -> Result<Vec<MediaState>, RedfishError> {
        Ok(self.drives().await?.iter().map(state).collect())
    }

    async fn drives(&self) -> Result<Vec<Resource>, RedfishError> {
        let system = self.system().await?;
        let mut collections: Vec<String> = system.link(&["VirtualMedia"]).map(str::to_owned).into_iter().collect();
        let mut found = self.members(&collections).await?;
        if found.is_empty() {
            collections.clear();
            for manager in self.managers(&system).await? {
                let Some(m) = self.client().find(&manager).await? else { continue };
                collections.extend(m.link(&["VirtualMedia"]).map(str::to_owned));
            }
            found = self.members(&collections).await?;
        }
        Ok(found)
    }

    /// Readable members of collections; those that the BMC cannot show are left out (Cisco answers 400 for some).
    async fn members(&self, collections: &[String]) -> Result<Vec<Resource>, RedfishError> {
        let mut all = Vec::new();
        for path in collections {
            let Some(collection) = self.client().find(path).await? else { continue };
            for member in collection.links(&[]) {
                match self.client().get_fresh(&member).await {
                    Ok(r) => all.push(r),
                    Err(e) if e.status().is_some() => {
                        tracing::debug!(bmc = self.client().bmc(), member, "virtual media left out: {e}");
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(all)
    }

    async fn drive(&self, kind: MediaKind) -> Result<Resource, RedfishError> {
        let drives = self.drives().await?;
        let mut seen = Vec::new();
        for d in drives {
            let types = state(&d).types;
            if kind.fits(&types) {
                return Ok(d);
            }
            seen.extend(types);
        }
        let offered = if seen.is_empty() { "no virtual media".to_owned() } else { seen.join(", ") };
        Err(self.unsupported(format!("virtual {} media (it offers {offered})", kind.name())))
    }

    /// Ejects what is in the drive, inserts the image at `url` and waits until the BMC shows it.
    pub async fn insert_media(&self, kind: MediaKind, url: &str) -> Result<(), RedfishError> {
        let flags = self.flags(&self.system().await?).await;
        let drive = self.drive(kind).await?;
        match self.eject_from(&drive).await {
            Ok(()) => {}
            // The insert will show whether it matters.
            Err(e) if e.status().is_some() => tracing::warn!(bmc = self.client().bmc(), "eject before insert: {e}"),
            Err(e) => return Err(e),
        }
        let mut last = None;
        for turn in 0..INSERT_TRIES {
            if turn > 0 {
                sleep(self.client().config().retry_interval).await;
            }
            // After an eject the ETag is another one.
            let drive = self.client().get_fresh(&drive.path).await?;
            match self.insert_into(&drive, url, flags).await {
                Ok(()) => return self.wait_media(&drive.path, true).await,
                Err(e) if e.status().is_some_and(|s| s >= 500) => {
                    tracing::debug!(bmc = self.client().bmc(), "insert failed, trying again: {e}");
                    last = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| self.unsupported("inserting virtual media")))
    }

    /// Tries the known forms of an insert until the BMC accepts one.
    async fn insert_into(&self, drive: &Resource, url: &str, flags: Flags) -> Result<(), RedfishError> {
        let action = action(drive, "#VirtualMedia.InsertMedia");
        let mut form =
            InsertForm { patch: flags.media_by_patch || action.is_none(), bare: flags.bare_insert, protocol: false, credentials: false };
        let mut tried = vec![form];
        loop {
            let body = form.body(url);
            let result = match (&action, form.patch) {
                (Some(target), false) => self.client().post(target, &body).await,
                _ => self.client().patch(&drive.path, drive.etag.as_deref(), &body).await,
            };
            let error = match result {
                Ok(written) => return self.client().settle(written, "inserting virtual media").await,
                Err(e) => e,
            };
            let Some(next) = form.next(&error, &tried, action.is_some()) else { return Err(error) };
            tracing::debug!(bmc = self.client().bmc(), ?next, "insert refused, trying another form: {error}");
            form = next;
            tried.push(form);
        }
    }

    /// Ejects from the drives of one kind, or from all. Nothing inserted is no error.
    pub async fn eject_media(&self, kind: Option<MediaKind>) -> Result<(), RedfishError> {
        for drive in self.drives().await? {
            if kind.is_none_or(|k| k.fits(&state(&drive).types)) {
                self.eject_from(&drive).await?;
            }
        }
        Ok(())
    }

    async fn eject_from(&self, drive: &Resource) -> Result<(), RedfishError> {
        let before = state(drive);
        let result = match action(drive, "#VirtualMedia.EjectMedia") {
            // Asked even when nothing is shown: what is shown may be wrong.
            Some(target) => match self.client().post(&target, &json!({})).await {
                Err(e) if before.inserted && matches!(e.status(), Some(404 | 405 | 501)) => self.eject_by_patch(drive).await,
                other => other.map(Some),
            },
            None if before.inserted => self.eject_by_patch(drive).await,
            None => Ok(None),
        };
        match result {
            Ok(written) => {
                if let Some(w) = written {
                    self.client().settle(w, "ejecting virtual media").await?;
                }
                if before.inserted { self.wait_media(&drive.path, false).await } else { Ok(()) }
            }
            // Nothing was in it, and the BMC says so in its own way; with some although it shows something.
            Err(e) if e.status().is_some() && (!before.inserted || NOTHING_IN_IT.iter().any(|m| e.mentions(m))) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn eject_by_patch(&self, drive: &Resource) -> Result<Option<super::client::Written>, RedfishError> {
        let etag = drive.etag.as_deref();
        let whole = json!({"Image": null, "Inserted": false});
        match self.client().patch(&drive.path, etag, &whole).await {
            Err(e) if e.status() == Some(400) => self.client().patch(&drive.path, etag, &json!({"Image": null})).await.map(Some),
            other => other.map(Some),
        }
    }

    async fn wait_media(&self, path: &str, inserted: bool) -> Result<(), RedfishError> {
        let started = Instant::now();
        let limit: Duration = self.client().config().media_wait;
        loop {
            if state(&self.client().get_fresh(path).await?).inserted == inserted {
                return Ok(());
            }
            if started.elapsed() >= limit {
                // Dell goes on showing ejected media: whoever inserts next will see whether it matters.
                if !inserted {
                    tracing::warn!(bmc = self.client().bmc(), path, "media are still shown as inserted after the eject");
                    return Ok(());
                }
                return Err(RedfishError::Timeout {
                    bmc: self.client().bmc().to_owned(),
                    waited_for: format!("the image to be inserted in {path}"),
                    after: started.elapsed(),
                });
            }
            sleep(self.client().config().poll).await;
        }
    }

    /// Whether media can be booted from by the standard way; says why not.
    pub async fn check_media_boot(&self) -> Result<(), RedfishError> {
        if self.flags(&self.system().await?).await.no_standard_media_boot {
            return Err(self.unsupported("booting from virtual media with this firmware version (update the BMC)"));
        }
        Ok(())
    }
}

fn state(drive: &Resource) -> MediaState {
    let image = drive.text(&["Image"]).or_else(|| drive.text(&["ImageName"])).map(str::to_owned);
    MediaState {
        path: drive.path.clone(),
        types: resource::texts(&drive.body, &["MediaTypes"]),
        inserted: resource::boolean(&drive.body, &["Inserted"]).unwrap_or(image.is_some()),
        image,
    }
}

fn action(drive: &Resource, name: &str) -> Option<String> {
    drive.text(&["Actions", name, "target"]).map(str::to_owned)
}

/// How an insert is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InsertForm {
    patch: bool,
    bare: bool,
    protocol: bool,
    credentials: bool,
}

impl InsertForm {
    fn body(self, url: &str) -> Value {
        let mut body = Map::new();
        body.insert("Image".to_owned(), url.into());
        if !self.bare || self.patch {
            body.insert("Inserted".to_owned(), true.into());
        }
        if !self.bare {
            body.insert("WriteProtected".to_owned(), true.into());
        }
        if self.protocol {
            let scheme = url.split("://").next().unwrap_or("http").to_ascii_uppercase();
            body.insert("TransferProtocolType".to_owned(), scheme.into());
            body.insert("TransferMethod".to_owned(), "Stream".into());
        }
        if self.credentials {
            // Wanted by some even where the server asks for none.
            body.insert("UserName".to_owned(), "none".into());
            body.insert("Password".to_owned(), "none".into());
        }
        Value::Object(body)
    }

    fn next(self, e: &RedfishError, tried: &[Self], has_action: bool) -> Option<Self> {
        let status = e.status()?;
        let mut ideas = Vec::new();
        if matches!(status, 404 | 405 | 501) {
            ideas.push(Self { patch: !self.patch, ..self });
        } else if matches!(status, 400 | 409 | 415 | 422 | 500) {
            if e.mentions("TransferProtocolType") || e.mentions("TransferMethod") {
                ideas.push(Self { protocol: !self.protocol, ..self });
            }
            if e.mentions("UserName") || e.mentions("Password") || e.mentions("credential") {
                ideas.push(Self { credentials: true, ..self });
            }
            if e.mentions("Inserted") || e.mentions("WriteProtected") {
                ideas.push(Self { bare: true, ..self });
            }
            // A server error without a word about the request is not about its form.
            if status != 500 {
                ideas.push(Self { bare: true, ..self });
                ideas.push(Self { bare: true, protocol: true, ..self });
                ideas.push(Self { bare: true, protocol: true, credentials: true, ..self });
            }
        }
        ideas.into_iter().filter(|i| has_action || i.patch).find(|i| !tried.contains(i)).filter(|_| tried.len() < 8)
    }
}
