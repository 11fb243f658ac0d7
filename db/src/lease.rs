//! DHCP leases: one row per (network, hardware address), one holder per (network, IP address), whatever daemon answers.

use std::{collections::HashSet, net::Ipv4Addr};

use bessemer_model::clock::Timestamp;

use crate::{
    engine::{
        Conn, Row, Sql,
        sql::{args, statements},
    },
    error::{DbError, Result},
    store::Store,
    types::{Lease, LeaseRequest},
};

statements! {
    OF = Sql::same("SELECT network, mac, address, state, expires_at FROM dhcp_leases WHERE network = $1 AND mac = $2");
    ALL_OF = Sql::same("SELECT network, mac, address, state, expires_at FROM dhcp_leases WHERE network = $1 ORDER BY expires_at");
    MAC_OF = Sql::same("SELECT mac FROM dhcp_leases WHERE network = $1 AND address = $2 AND expires_at > $3");
    PROLONG = Sql::same(
        "UPDATE dhcp_leases SET expires_at = CASE WHEN expires_at < $4 THEN $4 ELSE expires_at END \
         WHERE network = $1 AND mac = $2 AND address = $3",
    );
    OFFER = Sql::same(
        "INSERT INTO dhcp_leases (network, mac, address, state, expires_at) VALUES ($1, $2, $3, 'offered', $4) ON CONFLICT DO NOTHING",
    );
    FORGET = Sql::same("DELETE FROM dhcp_leases WHERE network = $1 AND mac = $2");
    EVICT = Sql::same("DELETE FROM dhcp_leases WHERE network = $1 AND address = $2 AND expires_at <= $3");
    BIND = Sql::same(
        "UPDATE dhcp_leases SET state = 'bound', expires_at = $4 WHERE network = $1 AND mac = $2 AND address = $3",
    );
    RELEASE = Sql::same(
        "UPDATE dhcp_leases SET state = 'offered', expires_at = CASE WHEN expires_at > $3 THEN $3 ELSE expires_at END \
         WHERE network = $1 AND mac = $2",
    );
    LIST = Sql::same("SELECT network, mac, address, state, expires_at FROM dhcp_leases WHERE network = $1 ORDER BY address");
}

/// How often a lost race for an address is run again.
const TRIES: usize = 16;

impl Store {
    /// Finds an address for a client and holds it: the one that it has, else its reservation, else what it wants, else one never used,
    /// else the one that expired first. `None` when the pool is exhausted.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_offer(&self, request: LeaseRequest, now: Timestamp) -> Result<Option<Ipv4Addr>> {
        self.write(move |c| Box::pin(async move { offer(c, &request, now).await })).await
    }

    /// Acknowledges an address to a client; false when it is not the client's.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_commit(&self, network: &str, mac: &str, address: Ipv4Addr, expires_at: Timestamp) -> Result<bool> {
        Ok(self.execute(BIND, args![network, mac, number(address), expires_at]).await? == 1)
    }

    /// The client gave its address back. The row stays, so that it gets the same one again while nobody else needs it.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_release(&self, network: &str, mac: &str, now: Timestamp) -> Result<()> {
        self.execute(RELEASE, args![network, mac, now]).await.map(drop)
    }

    /// Who holds an address now.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_mac_of(&self, network: &str, address: Ipv4Addr, now: Timestamp) -> Result<Option<String>> {
        self.fetch_one(MAC_OF, args![network, number(address), now]).await?.map(|r| r.cols().text()).transpose()
    }

    /// The lease of a client, also when it is over.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_of(&self, network: &str, mac: &str) -> Result<Option<Lease>> {
        self.fetch_one(OF, args![network, mac]).await?.map(|r| lease_from(&r)).transpose()
    }

    /// All leases of a network, by address.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn lease_list(&self, network: &str) -> Result<Vec<Lease>> {
        self.fetch(LIST, args![network]).await?.iter().map(lease_from).collect()
    }
}

fn number(a: Ipv4Addr) -> i64 {
    i64::from(u32::from(a))
}

fn lease_from(row: &Row) -> Result<Lease> {
    let c = &mut row.cols();
    let (network, mac, address) = (c.text()?, c.text()?, c.int()?);
    let address = u32::try_from(address).map(Ipv4Addr::from).map_err(|e| DbError::corrupt("lease address", e))?;
    Ok(Lease { network, mac, address, bound: c.str()? == "bound", expires_at: c.time()? })
}

async fn offer(c: &mut Conn, r: &LeaseRequest, now: Timestamp) -> Result<Option<Ipv4Addr>> {
    let (net, mac, until) = (r.network.as_str(), r.mac.as_str(), now.after(r.hold));
    let reserved: HashSet<Ipv4Addr> = r.reserved.iter().copied().collect();
    let usable = |a: &Ipv4Addr| r.pool.contains(a) && !reserved.contains(a);
    let mut refused: HashSet<Ipv4Addr> = HashSet::new();
    for _ in 0..TRIES {
        // Read anew each time: another daemon may have given the address away since.
        let leases = c.rows(ALL_OF, args![net]).await?.iter().map(lease_from).collect::<Result<Vec<_>>>()?;
        let mine = leases.iter().find(|l| l.mac == mac).map(|l| l.address);
        let free = |a: &Ipv4Addr| !refused.contains(a) && leases.iter().all(|l| l.address != *a || l.mac == mac || l.expires_at <= now);
        let choice = match (r.fixed.filter(&free), mine) {
            (Some(fixed), _) => Some(fixed),
            (None, Some(mine)) if usable(&mine) => Some(mine),
            _ => r.wanted.filter(|a| usable(a) && free(a)).or_else(|| pick(r, &leases, &usable, &free)),
        };
        let Some(choice) = choice else {
            return Ok(None);
        };
        if mine == Some(choice) {
            if c.execute(PROLONG, args![net, mac, number(choice), until]).await? == 1 {
                return Ok(Some(choice));
            }
            continue;
        }
        if mine.is_some() {
            c.execute(FORGET, args![net, mac]).await?;
        }
        c.execute(EVICT, args![net, number(choice), now]).await?;
        if c.execute(OFFER, args![net, mac, number(choice), until]).await? == 1 {
            return Ok(Some(choice));
        }
        // Lost the race: for the address (then it shows up as taken) or for this client's own row (then it shows up as mine).
        if leases.iter().any(|l| l.address == choice) {
            refused.insert(choice);
        }
    }
    Ok(None)
}

/// The lowest address never used, else the one whose lease ended first (`leases` are in that order).
fn pick(r: &LeaseRequest, leases: &[Lease], usable: &impl Fn(&Ipv4Addr) -> bool, free: &impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let used: HashSet<Ipv4Addr> = leases.iter().map(|l| l.address).collect();
    let range = u32::from(*r.pool.start())..=u32::from(*r.pool.end());
    let unused = range.map(Ipv4Addr::from).find(|a| usable(a) && !used.contains(a));
    unused.or_else(|| leases.iter().map(|l| l.address).find(|a| usable(a) && free(a)))
}
