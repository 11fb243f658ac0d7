//! Conductor processes and their leases. Leases are judged by the caller's clock on SQLite (one host) and by the database's clock on
//! PostgreSQL (shared by all hosts).

use std::{collections::BTreeMap, time::Duration};

use bessemer_model::{
    clock::Timestamp,
    conductor::{Conductor, DriverOffer},
};

use crate::{
    engine::{
        Row, Sql,
        row::to_json,
        sql::{args, judged, statements},
    },
    error::{DbError, Entity, Result},
    store::Store,
};

macro_rules! columns {
    () => {
        "seq, hostname, conductor_group, drivers, epoch, expires_at, address, created_at, updated_at"
    };
}

statements! {
    TAKE = judged!(
        "INSERT INTO conductors (hostname, conductor_group, drivers, epoch, address, created_at, updated_at, expires_at) \
         VALUES ($1, $2, $3, 1, $4, $5, $5, $6 + " now "$5" ") ON CONFLICT (hostname) DO UPDATE SET epoch = conductors.epoch + 1, \
         conductor_group = excluded.conductor_group, drivers = excluded.drivers, address = excluded.address, \
         updated_at = excluded.updated_at, expires_at = excluded.expires_at RETURNING epoch"
    );
    RENEW = judged!(
        "UPDATE conductors SET updated_at = $3, expires_at = $4 + " now "$3" " WHERE hostname = $1 AND epoch = $2"
    );
    EXPIRE = Sql::same("UPDATE conductors SET expires_at = 0 WHERE hostname = $1 AND epoch = $2");
    LIST = Sql::same(concat!("SELECT ", columns!(), " FROM conductors ORDER BY seq"));
    ALIVE = judged!(
        "SELECT seq, hostname, conductor_group, drivers, epoch, expires_at, address, created_at, updated_at FROM conductors \
         WHERE expires_at > " now "$1" " ORDER BY seq"
    );
    GET = Sql::same(concat!("SELECT ", columns!(), " FROM conductors WHERE hostname = $1"));
    PURGE = Sql::same("DELETE FROM conductors WHERE updated_at < $1 AND expires_at < $1");
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Store {
    /// Registers a process as the conductor of that name and gives its epoch; a former epoch of that name is over at once. The caller
    /// must know that the former process is gone (the lock on its state folder).
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_take(
        &self,
        hostname: &str,
        group: &str,
        drivers: BTreeMap<String, DriverOffer>,
        address: Option<&str>,
        now: Timestamp,
        lease: Duration,
    ) -> Result<i64> {
        let a = args![hostname, group, to_json("drivers", &drivers)?, address, now, micros(lease)];
        let row = self.execute_returning(TAKE, a).await?;
        row.ok_or_else(|| DbError::corrupt("conductors", "no row came back from an insert"))?.cols().int()
    }

    /// Prolongs the lease; false when another process took the name.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_renew(&self, hostname: &str, epoch: i64, now: Timestamp, lease: Duration) -> Result<bool> {
        Ok(self.execute(RENEW, args![hostname, epoch, now, micros(lease)]).await? == 1)
    }

    /// Ends the lease, at a clean shut-down.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_expire(&self, hostname: &str, epoch: i64) -> Result<()> {
        self.execute(EXPIRE, args![hostname, epoch]).await.map(drop)
    }

    /// All conductors, dead ones too, in order of creation.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_list(&self) -> Result<Vec<Conductor>> {
        self.fetch(LIST, args![]).await?.iter().map(conductor_from).collect()
    }

    /// The conductors whose lease holds, in order of creation.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_list_alive(&self, now: Timestamp) -> Result<Vec<Conductor>> {
        self.fetch(ALIVE, args![now]).await?.iter().map(conductor_from).collect()
    }

    /// A conductor by name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn conductor_get(&self, hostname: &str) -> Result<Conductor> {
        let row = self.fetch_one(GET, args![hostname]).await?;
        row.map(|r| conductor_from(&r)).ok_or_else(|| DbError::not_found(Entity::Conductor, hostname))?
    }

    /// Forgets conductors not heard of since `before`; gives how many went.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn conductor_purge(&self, before: Timestamp) -> Result<u64> {
        self.execute(PURGE, args![before]).await
    }
}

fn conductor_from(row: &Row) -> Result<Conductor> {
    let c = &mut row.cols();
    Ok(Conductor {
        seq: c.int()?,
        hostname: c.text()?,
        conductor_group: c.text()?,
        drivers: c.json("drivers")?,
        epoch: c.int()?,
        expires_at: c.time()?,
        address: c.opt_text()?,
        created_at: c.time()?,
        updated_at: c.time()?,
    })
}
