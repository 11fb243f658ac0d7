//! Measures a TFTP server: `tftpload ADDR:PORT FILE [BLKSIZE [WINDOW [CLIENTS [LOADS]]]]` prints bytes, seconds and MB/s.
//!
//! Each client loads the file `LOADS` times in turn. WINDOW 1 sends no `windowsize` option, for servers without it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, file, rest @ ..] = args.as_slice() else {
        return Err("usage: tftpload ADDR:PORT FILE [BLKSIZE [WINDOW [CLIENTS [LOADS]]]]".into());
    };
    let number = |index: usize, default: usize| rest.get(index).map_or(Ok(default), |text| text.parse());
    let (block, window, clients, loads) = (number(0, 1468)?, number(1, 16)?, number(2, 1)?, number(3, 1)?);
    let server: SocketAddr = server.parse()?;
    let started = Instant::now();
    let results: Vec<Result<u64, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| scope.spawn(move || (0..loads).try_fold(0, |sum, _| Ok(sum + load(server, file, block, window)?))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a client died".into()))).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let failed = results.iter().filter(|result| result.is_err()).count();
    let bytes: u64 = results.into_iter().flatten().sum();
    println!("{bytes} bytes, {seconds:.3} s, {:.1} MB/s, {failed} of {clients} clients failed", bytes as f64 / 1e6 / seconds);
    Ok(())
}

fn load(server: SocketAddr, file: &str, block: usize, window: usize) -> Result<u64, Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut request = format!("\0\x01{file}\0octet\0blksize\0{block}\0").into_bytes();
    if window > 1 {
        request.extend(format!("windowsize\0{window}\0").bytes());
    }
    let mut buffer = vec![0; block + 4];
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut answer = Err("no answer".into());
    for _ in 0..8 {
        socket.send_to(&request, server)?;
        if let Ok(first) = socket.recv_from(&mut buffer) {
            answer = Ok(first);
            break;
        }
    }
    let (len, peer): (usize, SocketAddr) = answer.map_err(|text: String| Failure::from(text))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    if buffer.get(..2) != Some(&[0, 6]) {
        return Err(format!("no OACK but {:?}", String::from_utf8_lossy(buffer.get(..len).unwrap_or_default())).into());
    }
    socket.connect(peer)?;
    socket.send(&[0, 4, 0, 0])?;
    let (mut expected, mut since_ack, mut bytes) = (1u16, 0, 0u64);
    loop {
        let len = socket.recv(&mut buffer)?;
        let [0, 3, high, low, ..] = buffer[..len] else { return Err("not DATA".into()) };
        if u16::from_be_bytes([high, low]) != expected {
            since_ack = 0;
            let [high, low] = expected.wrapping_sub(1).to_be_bytes();
            socket.send(&[0, 4, high, low])?;
            continue;
        }
        bytes += len as u64 - 4;
        since_ack += 1;
        let last = len < block + 4;
        if last || since_ack == window {
            socket.send(&[0, 4, high, low])?;
            since_ack = 0;
        }
        if last {
            return Ok(bytes);
        }
        expected = expected.wrapping_add(1);
    }
}
