//! `node_secrets`: sealed values by node and kind.

use bessemer_model::{JsonMap, ids::NodeId, secret::Secret};

use crate::{
    driver_secrets,
    engine::{
        Conn, Row, Sql,
        row::{from_json, to_json},
        sql::{args, statements},
    },
    error::{DbError, Result},
    seal::SealKey,
    secret_kind::DRIVER_INFO,
    store::Store,
};

statements! {
    GET = Sql::same("SELECT sealed FROM node_secrets WHERE node = $1 AND kind = $2");
    PUT = Sql::same(
        "INSERT INTO node_secrets (node, kind, sealed) VALUES ($1, $2, $3) ON CONFLICT (node, kind) DO UPDATE SET sealed = excluded.sealed",
    );
    ADD = Sql::same("INSERT INTO node_secrets (node, kind, sealed) VALUES ($1, $2, $3) ON CONFLICT (node, kind) DO NOTHING");
    DELETE = Sql::same("DELETE FROM node_secrets WHERE node = $1 AND kind = $2");
}

impl Store {
    /// Stores a secret of a node under a kind (see [`crate::secret_kind`]), or removes it.
    ///
    /// # Errors
    /// [`DbError::NotFound`] without that node.
    pub async fn secret_put(&self, node: NodeId, kind: &str, secret: Option<&Secret<String>>) -> Result<()> {
        match secret {
            Some(s) => {
                let sealed = self.key().seal(node, kind, s.reveal().as_bytes())?;
                self.execute(PUT, args![node, kind, sealed]).await.map_err(|e| e.about(node))?;
            }
            None => {
                self.execute(DELETE, args![node, kind]).await?;
            }
        }
        Ok(())
    }

    /// A secret of a node.
    ///
    /// # Errors
    /// [`DbError::Unsealable`] when it was sealed with another key.
    pub async fn secret_get(&self, node: NodeId, kind: &str) -> Result<Option<Secret<String>>> {
        let row = self.fetch_one(GET, args![node, kind]).await?;
        row.map(|r| open_text(&self.key(), node, kind, &r)).transpose()
    }

    /// Stores a secret unless there is one of that kind; false when there was.
    pub(crate) async fn secret_add(&self, node: NodeId, kind: &str, secret: &Secret<String>) -> Result<bool> {
        let sealed = self.key().seal(node, kind, secret.reveal().as_bytes())?;
        Ok(self.execute(ADD, args![node, kind, sealed]).await.map_err(|e| e.about(node))? == 1)
    }
}

fn open_text(key: &SealKey, node: NodeId, kind: &str, row: &Row) -> Result<Secret<String>> {
    let plain = key.unseal(node, kind, &row.cols().bytes()?)?;
    let text = std::str::from_utf8(&plain).map_err(|_| DbError::Unsealable { kind: kind.to_owned() })?;
    Ok(Secret::new(text.to_owned()))
}

/// Writes or removes a secret within a transaction.
pub(crate) async fn write(c: &mut Conn, key: &SealKey, node: NodeId, kind: &str, secret: Option<&Secret<String>>) -> Result<()> {
    match secret {
        Some(s) => c.execute(PUT, args![node, kind, key.seal(node, kind, s.reveal().as_bytes())?]).await?,
        None => c.execute(DELETE, args![node, kind]).await?,
    };
    Ok(())
}

/// The secrets of `driver_info` by pointer; empty when there are none.
pub(crate) async fn driver_secrets(c: &mut Conn, key: &SealKey, node: NodeId) -> Result<JsonMap> {
    let Some(row) = c.row(GET, args![node, DRIVER_INFO]).await? else {
        return Ok(JsonMap::new());
    };
    let plain = key.unseal(node, DRIVER_INFO, &row.cols().bytes()?)?;
    let text = std::str::from_utf8(&plain).map_err(|_| DbError::Unsealable { kind: DRIVER_INFO.to_owned() })?;
    from_json(DRIVER_INFO, text)
}

/// Seals the secrets of `info` and gives what may be stored in clear. `fresh` = the node is being created.
pub(crate) async fn take_driver_secrets(c: &mut Conn, key: &SealKey, node: NodeId, info: &JsonMap, fresh: bool) -> Result<JsonMap> {
    let none = JsonMap::new();
    let (masked, secrets) = driver_secrets::split(info, &none);
    let (masked, secrets, old) = if fresh || !driver_secrets::holds_mask(info) {
        (masked, secrets, none)
    } else {
        let old = driver_secrets(c, key, node).await?;
        let (masked, secrets) = driver_secrets::split(info, &old);
        (masked, secrets, old)
    };
    if secrets.is_empty() {
        if !fresh {
            c.execute(DELETE, args![node, DRIVER_INFO]).await?;
        }
    } else if secrets != old {
        let plain = zeroize::Zeroizing::new(to_json(DRIVER_INFO, &secrets)?);
        c.execute(PUT, args![node, DRIVER_INFO, key.seal(node, DRIVER_INFO, plain.as_bytes())?]).await?;
    }
    Ok(masked)
}
