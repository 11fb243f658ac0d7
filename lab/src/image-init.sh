#!/bin/sh
# Process 1 of the test image: tells on the serial console what it is and what it finds.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do insmod "$module" 2>/dev/null; done </etc/modules
id=$(cat /etc/image-id)
firmware=bios
[ ! -d /sys/firmware/efi ] || firmware=uefi
say() { echo "$*" >/dev/ttyS0; }
say ""
say "TEST-IMAGE id=$id firmware=$firmware kernel=$(uname -r) uptime=$(cut -d' ' -f1 /proc/uptime)"

tries=0
while [ $tries -lt 20 ] && ! ls /sys/block | grep -qE '^(vd|sd|nvme)'; do
    tries=$((tries + 1))
    sleep 0.25
done

# A device whose file system carries the label $1 (lower case): iso9660, ext4, FAT32, FAT16.
labelled() {
    for block in /sys/class/block/*; do
        device=/dev/${block##*/}
        case $device in /dev/loop* | /dev/ram* | /dev/fd*) continue ;; esac
        for at in 32808:32 1144:16 71:11 43:11; do
            label=$(dd if="$device" bs=1 skip="${at%:*}" count="${at#*:}" 2>/dev/null | tr -d '\000 ' | tr A-Z a-z)
            [ "$label" != "$1" ] || { echo "$device"; return; }
        done
    done
}

drive=$(labelled config-2)
if [ -n "$drive" ]; then
    kind=
    for type in iso9660 vfat ext4; do
        if mount -o ro -t $type "$drive" /mnt 2>/dev/null; then
            kind=$type
            break
        fi
    done
    say "CONFIG-DRIVE found device=$drive type=$kind"
    find /mnt -type f | sort | while read -r file; do
        say "FILE ${file#/mnt/} $(wc -c <"$file")"
        head -c 4096 "$file" | tr -d '\r' | tr -c '\n\t -~' '?' | sed 's/^/| /' >/run/part
        echo >>/run/part
        cat /run/part >/dev/ttyS0
    done
    umount /mnt
else
    say "CONFIG-DRIVE none"
fi

for block in /sys/block/*; do
    disk=${block##*/}
    case $disk in loop* | ram* | fd* | sr*) continue ;; esac
    parts=
    for part in "$block/$disk"*; do [ ! -e "$part/partition" ] || parts="$parts ${part##*/}"; done
    say "DISK $disk $(cat "$block/size")$parts"
done
say "TEST-IMAGE READY id=$id uptime=$(cut -d' ' -f1 /proc/uptime)"
while :; do
    setsid cttyhack sh </dev/ttyS0 >/dev/ttyS0 2>&1
    sleep 1
done
