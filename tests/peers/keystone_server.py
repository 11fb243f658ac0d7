"""A real Keystone for one test: python keystone_server.py FOLDER PORT PASSWORD

Makes its database in FOLDER, serves on 127.0.0.1:PORT, adds callers of every kind, then writes FOLDER/ready. A caller NAME_ROLE has
that role on the project NAME, or on the whole system for system_ROLE; the service itself is `ironic`. All have the same password.
Beside it, below /network, a stand-in for the network service.
"""
import json
import os
import subprocess
import sys
import threading
import urllib.request

folder, port, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]
base = 'http://127.0.0.1:%d/v3' % port
conf = os.path.join(folder, 'keystone.conf')
os.makedirs(folder, exist_ok=True)
with open(conf, 'w') as f:
    f.write('''[database]
connection = sqlite:///{0}/keystone.db
sqlite_synchronous = false
[fernet_tokens]
key_repository = {0}/fernet
[credential]
key_repository = {0}/credential
[identity]
password_hash_rounds = 4
[token]
expiration = 3600
[cache]
enabled = false
'''.format(folder))


def manage(*args):
    program = os.path.join(os.path.dirname(sys.executable), 'keystone-manage')
    subprocess.run([program, '--config-file', conf, *args], check=True, stderr=subprocess.DEVNULL)


manage('db_sync')
manage('fernet_setup', '--keystone-user', str(os.getuid()), '--keystone-group', str(os.getgid()))
manage('credential_setup', '--keystone-user', str(os.getuid()), '--keystone-group', str(os.getgid()))
manage('bootstrap', '--bootstrap-username', 'admin', '--bootstrap-password', password, '--bootstrap-project-name', 'admin',
       '--bootstrap-role-name', 'admin', '--bootstrap-service-name', 'keystone', '--bootstrap-region-id', 'one',
       '--bootstrap-public-url', base)

os.environ['OS_KEYSTONE_CONFIG_DIR'] = folder
os.environ['OS_KEYSTONE_CONFIG_FILES'] = 'keystone.conf'
sys.argv = ['keystone']
from cheroot import wsgi  # noqa: E402
from keystone.wsgi.api import application  # noqa: E402
import network_service  # noqa: E402

apps = wsgi.PathInfoDispatcher({'/': application, '/network': network_service.Application()})
# One worker: SQLite never sees two writers.
server = wsgi.Server(('127.0.0.1', port), apps, numthreads=1)
server.prepare()
threading.Thread(target=server.serve, daemon=True).start()
token = None


def call(method, path, body=None):
    request = urllib.request.Request(base + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={'Content-Type': 'application/json'})
    if token:
        request.add_header('X-Auth-Token', token)
    with urllib.request.urlopen(request, timeout=60) as answer:
        raw = answer.read()
        return answer.headers, json.loads(raw) if raw else None


headers, _ = call('POST', '/auth/tokens', {'auth': {
    'identity': {'methods': ['password'], 'password': {'user': {
        'name': 'admin', 'domain': {'id': 'default'}, 'password': password}}},
    'scope': {'project': {'name': 'admin', 'domain': {'id': 'default'}}}}})
token = headers['X-Subject-Token']
roles = {r['name']: r['id'] for r in call('GET', '/roles')[1]['roles']}
for name in ('reader', 'member', 'manager', 'admin', 'service'):
    if name not in roles:
        roles[name] = call('POST', '/roles', {'role': {'name': name}})[1]['role']['id']
projects = {}
for name in ('service', 'owner', 'lessee', 'other'):
    projects[name] = call('POST', '/projects', {'project': {'name': name, 'domain_id': 'default'}})[1]['project']['id']


def user(name):
    body = {'user': {'name': name, 'domain_id': 'default', 'password': password}}
    return call('POST', '/users', body)[1]['user']['id']


def grant(who, role, project):
    where = '/projects/' + projects[project] if project else '/system'
    call('PUT', '%s/users/%s/roles/%s' % (where, who, roles[role]))


ironic = user('ironic')
grant(ironic, 'admin', 'service')
grant(ironic, 'service', 'service')
grant(user('nova'), 'service', 'service')
admin_of_domain = user('domain_admin')
call('PUT', '/domains/default/users/%s/roles/%s' % (admin_of_domain, roles['admin']))
for role in ('admin', 'manager', 'member', 'reader', 'service'):
    grant(user('system_' + role), role, None)
    for project in ('owner', 'lessee', 'other'):
        grant(user('%s_%s' % (project, role)), role, project)
with open(os.path.join(folder, 'ready'), 'w') as f:
    json.dump(projects, f)
threading.Event().wait()
