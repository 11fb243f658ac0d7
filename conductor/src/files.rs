//! Kernels, ramdisks and images that this daemon serves to machines: found on disk or fetched into the cache.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bessemer_pxe::plan::FileRef;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::core::Core;

/// Why a file cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FileProblem(pub String);

/// How long a fetch may stand still.
const STALL: Duration = Duration::from_secs(20);

/// A kernel or ramdisk by its configured URL: a local file, or a copy in the cache.
///
/// # Errors
/// [`FileProblem`] naming the option and what is wrong.
pub async fn boot_file(core: &Core, what: &str, url: &str) -> Result<FileRef, FileProblem> {
    let path = if url.starts_with("http://") || url.starts_with("https://") {
        fetch(core, url).await.map_err(|e| FileProblem(format!("{what} {url} cannot be fetched: {e}")))?
    } else {
        let path = PathBuf::from(url.strip_prefix("file://").unwrap_or(url));
        let meta = tokio::fs::metadata(&path).await.map_err(|e| FileProblem(format!("{what} {}: {e}", path.display())))?;
        if !meta.is_file() {
            return Err(FileProblem(format!("{what} {} is not a regular file", path.display())));
        }
        path
    };
    Ok(FileRef::Path(path))
}

/// A copy of `url` in the cache. Fetched again when the server's validators differ.
async fn fetch(core: &Core, url: &str) -> Result<PathBuf, String> {
    let dir = core.cache("boot");
    tokio::fs::create_dir_all(&dir).await.map_err(|e| format!("cache folder {}: {e}", dir.display()))?;
    let name = hex::encode(&Sha256::digest(url.as_bytes())[..16]);
    let path = dir.join(&name);
    let tag_path = dir.join(format!("{name}.etag"));
    let known = tokio::fs::read_to_string(&tag_path).await.ok().filter(|_| path.exists());
    let mut request = core.http.get(url);
    if let Some(tag) = &known {
        request = request.header("If-None-Match", tag.clone());
    }
    let mut answer = tokio::time::timeout(STALL, request.send())
        .await
        .map_err(|_| format!("no answer within {} s", STALL.as_secs()))?
        .map_err(|e| e.without_url().to_string())?;
    if answer.status().as_u16() == 304 && known.is_some() {
        return Ok(path);
    }
    if !answer.status().is_success() {
        return Err(format!("the server answered {}", answer.status()));
    }
    let tag = answer.headers().get("etag").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let part = dir.join(format!("{name}.{}.part", uuid::Uuid::new_v4()));
    let mut file = tokio::fs::File::create(&part).await.map_err(|e| format!("{}: {e}", part.display()))?;
    let copied: Result<(), String> = async {
        while let Some(chunk) = tokio::time::timeout(STALL, answer.chunk())
            .await
            .map_err(|_| format!("the transfer stood still for {} s", STALL.as_secs()))?
            .map_err(|e| e.without_url().to_string())?
        {
            file.write_all(&chunk).await.map_err(|e| e.to_string())?;
        }
        file.sync_all().await.map_err(|e| e.to_string())
    }
    .await;
    if let Err(e) = copied {
        let _ = tokio::fs::remove_file(&part).await;
        return Err(e);
    }
    tokio::fs::rename(&part, &path).await.map_err(|e| e.to_string())?;
    match tag {
        Some(tag) => tokio::fs::write(&tag_path, tag).await.map_err(|e| e.to_string())?,
        None => {
            let _ = tokio::fs::remove_file(&tag_path).await;
        }
    }
    Ok(path)
}

/// Folders that `file://` images may never come from, whatever is allowed (`security.md` section 6).
const BLOCKED: &[&str] = &["/dev", "/sys", "/proc", "/boot", "/etc", "/run"];

/// The local path of a `file://` image, if it may be read.
///
/// # Errors
/// [`FileProblem`] when the path is outside what the operator allows.
pub fn allowed_image_path(core: &Core, url: &str) -> Result<PathBuf, FileProblem> {
    let raw = Path::new(url.strip_prefix("file://").unwrap_or(url));
    let path = raw.canonicalize().map_err(|e| FileProblem(format!("image {}: {e}", raw.display())))?;
    let within = |root: &Path| path.starts_with(root.canonicalize().unwrap_or_else(|_| root.to_owned()));
    if BLOCKED.iter().any(|b| within(Path::new(b))) || !core.config.file_url_allowed_paths.iter().any(|p| within(p)) {
        return Err(FileProblem(format!("image {} is outside of [conductor] file_url_allowed_paths", path.display())));
    }
    if !path.is_file() {
        return Err(FileProblem(format!("image {} is not a regular file", path.display())));
    }
    Ok(path)
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`FileProblem`] when it cannot be read.
pub async fn sha256_of(path: &Path) -> Result<String, FileProblem> {
    let bad = |e: std::io::Error| FileProblem(format!("{}: {e}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(bad)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).await.map_err(bad)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}
