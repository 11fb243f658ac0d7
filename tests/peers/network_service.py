"""A stand-in for the network service: it knows one network, `private`, and remembers ports. Tokens are not looked at."""
import json
import re
import uuid
from urllib.parse import parse_qs

NETWORK = {'id': '11111111-2222-4333-8444-555555555555', 'name': 'private', 'status': 'ACTIVE', 'shared': True}


class Application:
    """WSGI; one caller at a time."""

    def __init__(self):
        self.ports = {}

    def __call__(self, environ, start_response):
        status, body = self.answer(environ)
        raw = b'' if body is None else json.dumps(body).encode()
        start_response(status, [('Content-Type', 'application/json'), ('Content-Length', str(len(raw)))])
        return [raw]

    def answer(self, environ):
        method, path = environ['REQUEST_METHOD'], environ['PATH_INFO'].rstrip('/')
        if (method, path) == ('GET', '/v2.0/networks'):
            asked = parse_qs(environ['QUERY_STRING'])
            fits = all(str(NETWORK.get(key)) in values for key, values in asked.items())
            return '200 OK', {'networks': [NETWORK] if fits else []}
        if (method, path) == ('POST', '/v2.0/ports'):
            given = json.loads(environ['wsgi.input'].read(int(environ['CONTENT_LENGTH'])))['port']
            port = dict({'name': '', 'status': 'DOWN', 'device_id': ''}, **given, id=str(uuid.uuid4()))
            self.ports[port['id']] = port
            return '201 Created', {'port': port}
        one = re.fullmatch('/v2.0/ports/([^/]+)', path)
        if one and one[1] in self.ports and method in ('GET', 'DELETE'):
            if method == 'GET':
                return '200 OK', {'port': self.ports[one[1]]}
            del self.ports[one[1]]
            return '204 No Content', None
        return '404 Not Found', {'NeutronError': {'type': 'NotFound', 'message': '%s %s' % (method, path), 'detail': ''}}
