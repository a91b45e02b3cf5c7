-- Version 1.1: what was never claimed and may expire, by its time. Version 1.0 ends it only when a claim comes to it.
CREATE INDEX inv_expiring ON @inv (app, expires) WHERE expires > 0 AND attempt = 0 AND round = 0 AND place < P_CLAIMED;
