#!/usr/bin/env bash
# PostgreSQL and MariaDB for the tests. Sourced by .ci/run, or run with a command: .ci/databases.sh make test
#
# Exports RECSYS_TEST_POSTGRESQL_URL and RECSYS_TEST_MARIADB_URL. A URL that is set already is used as it is; else the
# server that answers on loopback; else, or with RECSYS_CI_OWN_DATABASES=1, one is started on a free port in a temporary
# folder and stopped at exit. Missing programs are installed from Debian's packages, which takes root.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then set -euo pipefail; fi

_databases_folder=""

databases_say() { echo "databases: $*" >&2; }

databases_free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# As another user when we are root: PostgreSQL refuses to run as root.
databases_as() {
  local user=$1
  shift
  if [[ $(id -u) == 0 ]]; then setpriv --reuid="$user" --regid="$user" --init-groups "$@"; else "$@"; fi
}

databases_install() {
  if [[ $(id -u) != 0 ]]; then
    databases_say "$1 is not installed, and only root can install it: apt-get install $1"
    return 1
  fi
  databases_say "installing $1"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

databases_new_folder() { # KIND OWNER -> a folder that the owner may write
  if [[ -z $_databases_folder ]]; then
    databases_say "the temporary folder must be made first"
    return 1
  fi
  mkdir -p "$_databases_folder/$1"
  if [[ $(id -u) == 0 ]]; then chown "$2" "$_databases_folder/$1"; fi
  echo "$_databases_folder/$1"
}

databases_postgresql_programs() { # the folder with initdb and pg_ctl, of the newest version
  find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname
}

databases_start_postgresql() {
  local programs folder port
  programs=$(databases_postgresql_programs)
  if [[ -z $programs ]]; then
    # The package would also make a cluster of its own and start it.
    if [[ $(id -u) == 0 && ! -e /etc/postgresql-common/createcluster.conf ]]; then
      mkdir -p /etc/postgresql-common
      echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    databases_install postgresql
    programs=$(databases_postgresql_programs)
  fi
  folder=$(databases_new_folder postgresql postgres)
  port=$(databases_free_port)
  (
    cd "$folder"
    databases_as postgres "$programs/initdb" --pgdata="$folder/data" --username=root --auth=trust --encoding=UTF8 \
      --locale=C.UTF-8 >"$_databases_folder/initdb.log" 2>&1 || { cat "$_databases_folder/initdb.log" >&2; exit 1; }
    databases_as postgres "$programs/pg_ctl" --pgdata="$folder/data" --log="$folder/log" --wait --silent \
      --options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='$folder' -c fsync=off" start \
      </dev/null >/dev/null 2>&1 || { cat "$folder/log" >&2; exit 1; }
    psql -h 127.0.0.1 -p "$port" -U root -d postgres -q -c "CREATE DATABASE test"
  )
  export RECSYS_TEST_POSTGRESQL_URL="postgresql://root@127.0.0.1:$port/test"
}

databases_start_mariadb() {
  local folder port try user=()
  if ! command -v mariadbd >/dev/null && [[ ! -x /usr/sbin/mariadbd ]]; then databases_install mariadb-server; fi
  folder=$(databases_new_folder mariadb mysql)
  port=$(databases_free_port)
  if [[ $(id -u) == 0 ]]; then user=(--user=mysql); fi
  mariadb-install-db --no-defaults "${user[@]}" --datadir="$folder/data" --auth-root-authentication-method=normal \
    --skip-test-db >"$_databases_folder/install.log" 2>&1 || { cat "$_databases_folder/install.log" >&2; return 1; }
  "$(command -v mariadbd || echo /usr/sbin/mariadbd)" --no-defaults "${user[@]}" --datadir="$folder/data" \
    --port="$port" --bind-address=127.0.0.1 --socket="$folder/socket" --pid-file="$folder/pid" \
    --innodb-flush-log-at-trx-commit=0 </dev/null >"$_databases_folder/mariadb.log" 2>&1 &
  _databases_mariadb=$!
  for ((try = 0; try < 300; try++)); do
    if mariadb --no-defaults -h 127.0.0.1 -P "$port" -u root -e "CREATE DATABASE IF NOT EXISTS test" 2>/dev/null; then
      export RECSYS_TEST_MARIADB_URL="mariadb://root@127.0.0.1:$port/test"
      return 0
    fi
    kill -0 "$_databases_mariadb" 2>/dev/null || break
    sleep 0.2
  done
  databases_say "MariaDB did not start:"
  cat "$_databases_folder/mariadb.log" >&2
  return 1
}

databases_stop() {
  local programs
  [[ -n $_databases_folder ]] || return 0
  programs=$(databases_postgresql_programs)
  if [[ -e $_databases_folder/postgresql/data/postmaster.pid ]]; then
    (cd "$_databases_folder/postgresql" && databases_as postgres "$programs/pg_ctl" --pgdata="$_databases_folder/postgresql/data" \
      --mode=fast --silent stop >/dev/null) || true
  fi
  if [[ -n ${_databases_mariadb:-} ]]; then
    kill "$_databases_mariadb" 2>/dev/null || true
    wait "$_databases_mariadb" 2>/dev/null || true
  fi
  rm -rf "$_databases_folder"
}

databases_answer_postgresql() {
  [[ ${RECSYS_CI_OWN_DATABASES:-} != 1 ]] || return 1
  PGCONNECT_TIMEOUT=5 psql -h 127.0.0.1 -p 5432 -U root -w -d test -qAt -c "SELECT 1" >/dev/null 2>&1
}

databases_answer_mariadb() {
  [[ ${RECSYS_CI_OWN_DATABASES:-} != 1 ]] || return 1
  mariadb --no-defaults --connect-timeout=5 -h 127.0.0.1 -P 3306 -u root -e "SELECT 1" test >/dev/null 2>&1
}

databases_start() {
  trap databases_stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  _databases_folder=$(mktemp -d)
  chmod 755 "$_databases_folder"
  if [[ -n ${RECSYS_TEST_POSTGRESQL_URL:-} ]]; then
    databases_say "PostgreSQL as RECSYS_TEST_POSTGRESQL_URL names it"
  elif databases_answer_postgresql; then
    export RECSYS_TEST_POSTGRESQL_URL="postgresql://root@127.0.0.1:5432/test"
    databases_say "PostgreSQL answers on port 5432"
  else
    databases_start_postgresql
    databases_say "PostgreSQL started at $RECSYS_TEST_POSTGRESQL_URL"
  fi
  if [[ -n ${RECSYS_TEST_MARIADB_URL:-} ]]; then
    databases_say "MariaDB as RECSYS_TEST_MARIADB_URL names it"
  elif databases_answer_mariadb; then
    export RECSYS_TEST_MARIADB_URL="mariadb://root@127.0.0.1:3306/test"
    databases_say "MariaDB answers on port 3306"
  else
    databases_start_mariadb
    databases_say "MariaDB started at $RECSYS_TEST_MARIADB_URL"
  fi
}

databases_start
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then "$@"; fi
