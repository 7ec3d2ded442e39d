--- What the reference of SCM documents of answers: a compact list of our own.
--
-- Names are resource.what; the notation is that of sandbox_shape. Fields with "!" are those
-- that real answers always carry.

local shape = require "sandbox_shape"

local shapes = {}

local PROFILE = [[{id!:n, name!:s, useSecondaryOrgName!:b, description!:s, terms!:[n],
  keyTypes!:o}]]
local DEPARTMENT = "{id!:n, name!:s, parentName:s}"
local RECOVERY = [[{allowKeyRecoveryByMasterAdmins:b, allowKeyRecoveryByOrgAdmins:b,
  allowKeyRecoveryByDepartmentAdmins:b}]]
local DELEGATION = [[{orgId!:n, certTypes!:[s(SSL|SMIME|CodeSign)],
  domainCertificateRequestPrivileges!:[s(DOMAIN|SUBDOMAIN|WILDCARD_1ST_LEVEL|
  WILDCARD_2ND_LEVEL)], status!:s(ACTIVE|REQUESTED)}]]
local DCV_STATUS = "s(NOT_VALIDATED|VALIDATED|EXPIRED)"
local ORDER_STATUS = "s(NOT_INITIATED|AWAITING_SUBMIT|SUBMITTED|REJECTED)"
local MODE = "s(EMAIL|CNAME|HTTP|HTTPS|AUTO|TXT|PERSISTENT_TXT)"
local METHOD = "s(HTTP_CSR_HASH|CNAME_CSR_HASH|EMAIL|HTTPS_CSR_HASH|DNSTXT_RANDOM_VALUE|"
  .. "DNSTXT_PERSISTENT_VALUE)"
local VIA = "s(Enrollment Form|Client Admin|Web API|Discovery|Imported|SCEP|CD Agent|"
  .. "MS Agent|MS CA|Bulk Request|ACME|EST|REST API)"
local SUBMITTED = "status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
  .. ", message!:s, orderBackendId!:s"

local ACME = [[id!:n, name!:s, status!:s, macKey!:s(86..86), macId!:s(22..22),
  acmeServer!:s, organizationId!:n, certValidationType!:s(DV|OV|EV), accountId!:s,
  validationId:s, contacts!:s, ovOrderNumber:n, ovAnchorID:s]]
local SCHEDULE = [[name!:s, status!:s, frequency!:s(Manual|Daily|Weekly|Monthly|Quarterly|
  SemiAnnually|Annually|Once), timeZone!:s, time!:{hours!:n, minutes!:n}, month:n,
  dayOfMonth:n, dayOfWeek:n, year:n]]
local FOUND = [[{cn!:s, validFrom!:s(ISO_HMS), validTo!:s(ISO_HMS), subject!:o, san!:[s],
  keyAlgorithm!:s, keySize!:n, signatureAlgorithm!:s, sn!:s, md5Hash!:s, sha1Hash!:s,
  ku!:[s], eku!:[s], issuer!:o, precert!:b}]]

local TEXTS = {
  error = "{code!:n, description!:s}",

  ["organization.list"] = "[{id!:n, name!:s, departments!:[" .. DEPARTMENT .. "]}]",
  ["organization.managed_by"] = "[" .. DEPARTMENT .. "]",
  ["organization.details"] = [[{name!:s, id!:n, schacHomeOrganization:s, alias:s,
    secondaryName:s, contactEmails:s, contactWebhook:s, contactSlack:s, contactTeams:s,
    address1!:s, address2:s, address3:s, city:s, stateOrProvince:s, postalCode:s,
    country!:s(2..2), validationStatus:s, secondaryValidationStatus:s,
    sslCertsApiEnabled!:b, clientCertsApiEnabled!:b, clientCertificate!:]] .. RECOVERY
    .. ", certTypes!:[s], departments!:[" .. DEPARTMENT .. "]}",
  ["organization.validations"] = [[[{id!:n, validationLevel!:s(OV_SSL|OV_SMIME|EV_SSL),
    status!:s(NOT_VALIDATED|PENDING|EXPIRED|FAILED|VALIDATED), backgroundStatus!:s,
    submitted!:s(ISO_HMS), expires:s(ISO_HMS), alternative!:b, backendId!:n,
    backendType!:s}] ]],
  ["organization.validation"] = [[{id!:n, validationLevel!:s(OV_SSL|OV_SMIME|EV_SSL),
    status!:s(NOT_VALIDATED|PENDING|EXPIRED|FAILED|VALIDATED), backgroundStatus!:s,
    submitted!:s(ISO_HMS), expires:s(ISO_HMS), alternative!:b, backendId!:n,
    backendType!:s, validator:{id!:n, name!:s}, settings!:o, organizationDetails!:{
    generalDetails!:{legalName!:s, assumedName:s, address1:s, address2:s, address3:s,
    city:s,
    stateProvince:s, postalCode:s, country!:s}, organizationIdentifier:s, evDetails:o}}]],
  ["ca_backend.list"] = "[{id!:n, name!:s, type!:s, public!:b, connectorBackendType:s}]",

  ["ssl.types"] = "[" .. PROFILE .. "]",
  ["ssl.custom_fields"] = "[{id!:n, name!:s, mandatory!:b}]",
  ["ssl.enrolled"] = "{sslId!:n, renewId!:s}",
  ["ssl.renewed"] = "{sslId!:n}",
  ["ssl.list"] = [[[{sslId!:n, commonName!:s, subjectAlternativeNames:[s],
    serialNumber:s}] ]],
  ["ssl.details"] = [[{commonName!:s, sslId!:n, id!:n, orgId!:n, status!:s(Init|Requested|
    SA Approved|Approved|Applied|Issued|Declined|Rejected|Invalid|Revoked|Expired|
    Replaced),
    orderNumber:n, backendCertId:s, vendor!:s, certType!:]] .. PROFILE .. [[, subType!:s,
    validationType!:s, term!:n, owner!:s, ownerId!:n, requester!:s, requesterId!:n,
    requestedVia!:]] .. VIA .. [[, externalRequester:s, comments!:s, requested!:s(US),
    approved:s(US), issued:s(US), declined:s(US), expires:s(US), replaced:s(US),
    revoked:s(US), reasonCode:n, renewed!:b, renewedDate:s(US), serialNumber:s,
    signatureAlg:s, keyAlgorithm:s, keySize:n, keyType:s, keyUsages:[s],
    extendedKeyUsages:[s], subjectAlternativeNames!:[s],
    customFields!:[{name!:s, value!:s}],
    certificateDetails:{issuer!:s, subject!:s, subjectAltNames!:s, md5Hash!:s(32..32),
    sha1Hash!:s(40..40)}, autoInstallDetails!:{state!:s, nodes:[{name:s, port:n}]},
    autoRenewDetails!:{state!:s(Not scheduled|Scheduled|Started|Successful|Failed),
    daysBeforeExpiration:n}, suspendNotifications!:b}]],
  ["ssl.dcv"] = [[{dcvLog!:{error!:{code!:n, description:s?}, log!:[{dcvStatus!:s,
    domainName!:s, dcvDate:s(HMS)?, lastCheck:s(HMS), nextCheck:s(HMS),
    dcvEmailRefNumber:n}]}, instructions!:[{domainName!:s, dcvMode!:s, host:s, point:s,
    url:s, file:s, dcvEmail:s}]}]],
  ["ssl.locations"] = "[{id!:n, locationType!:s, name!:s, details!:o}]",
  ["ssl.location"] = "{id!:n, locationType!:s, name!:s, details!:o}",
  ["ssl.imported"] = [[[{cert:{id!:n, subject!:s, serialNumber!:s}, created:b,
    errorMessage:s}] ]],

  ["domain.list"] = "[{id!:n, name!:s}]",
  ["domain.count"] = "{count!:n}",
  ["domain.details"] = [[{id!:n, name!:s, delegationStatus!:s(ACTIVE|REQUESTED),
    state!:s(SUSPENDED|ACTIVE), validationStatus!:]] .. DCV_STATUS .. [[,
    validationMethod:]] .. METHOD .. [[, dcvValidation:s(ISO), dcvExpiration:s(ISO),
    ctLogMonitoring!:{enabled!:b, includeSubdomains!:b, bucketId:s}, delegations!:[]]
    .. DELEGATION .. "]}",

  ["dcv.list"] = "[{domain!:s, dcvStatus!:" .. DCV_STATUS .. ", dcvOrderStatus!:"
    .. ORDER_STATUS .. ", dcvOrderMethod:" .. MODE .. ", dcvMethod:" .. METHOD
    .. ", expirationDate:s(ISO)}]",
  ["dcv.status_v1"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", validationDate:s(ISO), expirationDate:s(ISO)}",
  ["dcv.status"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", validationDate:s(ISO), expirationDate:s(ISO), orderMode:" .. MODE .. [[, url:s,
    firstLine:s(64..64), secondLine:s, host:s, point:s, validationEmail:s,
    emailValidationReferenceNumber:s, orderBackendId:s, submittedDate:s(ISO),
    lastCheck:s(ISO_HMS), nextCheck:s(ISO_HMS)}]],
  ["dcv.http"] = "{url!:s, firstLine!:s(64..64), secondLine!:s}",
  ["dcv.cname"] = "{host!:s, point!:s}",
  ["dcv.message"] = "{message!:s}",
  ["dcv.email"] = [[{emails!:[s(e-mail)], dcvEmails!:[{domainName!:s, whoisEmails!:[s],
    adminEmails!:[s], dnsTxtEmails!:[s]}]}]],
  ["dcv.submitted"] = "{" .. SUBMITTED .. "}",
  ["dcv.submitted_txt"] = "{" .. SUBMITTED .. ", host!:s, point!:s}",
  ["dcv.submitted_email"] = "{" .. SUBMITTED .. ", emailValidationReferenceNumber!:s}",
  ["dcv.submitted_bulk"] = "{message!:s, orderStatus!:s, orderBackendId!:s}",
  ["dcv.cleared"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", message!:s}",

  ["custom_field.list"] = [[[{id!:n, name!:s, mandatories!:[s(ADMIN_UI|REST_API|SOAP_API|
    WEB_FORM)], certType!:s, state!:s(ACTIVE|INACTIVE|SUSPENDED_ACTIVE|
    SUSPENDED_INACTIVE),
    input!:{type!:s, options:[s]}}] ]],
  ["custom_field.list_v1"] = [[[{id!:n, name!:s, mandatory!:b, certType!:s, state!:s,
    input!:{type!:s, options:[s]}}] ]],
  ["custom_field.details"] = [[{id!:n, name!:s, mandatories!:[s], certType!:s, state!:s,
    input!:{type!:s, options:[s]}}]],

  ["acme.servers"] = [[[{name!:s, certValidationType!:s(DV|OV|EV), url!:s, caId!:n,
    singleProductId!:n, multiProductId!:n, wcProductId!:n}] ]],
  ["acme.account"] = "{" .. ACME .. "}",
  ["acme.account_v1"] = "{" .. ACME .. ", domains!:[{name!:s}]}",
  ["acme.domains"] = "[{name!:s, validUntil!:s(ISO_HMS), stickyUntil!:s(ISO_HMS), "
    .. "validationId:s}]",
  ["acme.not_added"] = "{notAddedDomains:[s]}",
  ["acme.not_removed"] = "{notRemovedDomains:[s]}",
  ["acme.clients"] = [[[{accountId!:s, userAgent!:s, ipAddress!:s, status!:s,
    lastActivity!:s(ISO_HMS), contacts:s}] ]],
  ["acme.universal"] = [[{id!:n, name!:s, macKey!:s, macId!:s, acmeServer!:s,
    organizationId!:n, accountId!:s, profileName!:s}]],

  person = [[{id!:n, organizationId!:n, email!:s(e-mail), firstName!:s, lastName!:s,
    middleName!:s, validationType!:s(STANDARD|HIGH), phone!:s, commonName!:s,
    secondaryEmails!:[s], eppn!:s, upn!:s, created!:s(ISO_HMS), createdBy!:s,
    modified!:s(ISO_HMS), modifiedBy!:s}]],
  ["person.by_email"] = "{personId!:n}",
  ["person.endpoints"] = "[{id!:n, name!:s, url!:s}]",

  notification = [[{id!:n, description!:s, type!:s, created!:s(ISO_HMS), createdBy!:s,
    modified!:s(ISO_HMS), modifiedBy!:s, orgData!:{selectedOrgType!:s(ANY|ANYDEPT|
    SELECTED),
    orgDelegations!:[n]}, recipientData!:{notifyRoles!:[s], recipients!:[{type!:s,
    value!:s}]}, additionalData!:{days:n, certTypeId:n, freq:s(ONCE|DAILY),
    revokedByAdmin:b, revokedByUser:b}, active!:b}]],

  ["report.ssl"] = [[{statusCode!:n, reports!:[{commonName!:s, id!:n, orgId!:n,
    organizationName!:s, city!:s, state!:s, country!:s, status!:s, orderNumber:n,
    backendCertId:s, serverType!:s, servers!:n, typeId!:n, type!:s, term!:n, issuer:s,
    requester!:s, approver:s, externalRequester:s, comments!:s, requested!:s(ISO_HMS),
    approved:s(ISO_HMS), declined:s(ISO_HMS), downloaded:s(ISO_HMS), expires:s(ISO_HMS),
    revoked:s(ISO_HMS), replaced:s(ISO_HMS), ipAddresses:s, publicKeyAlg:s,
    publicKeySize:s, publicKeyType:s, subjAltNames!:s, serialNumber!:s, requestedVia!:]]
    .. VIA .. ", sha1:s, md5:s, customFields!:[{name!:s, value!:s}]}]}",
  ["report.domains"] = [[{statusCode!:n, reports!:[{id!:n, name!:s,
    status!:s(Suspended|Active), requested!:s(ISO_HMS), stickyUntil:s(ISO_HMS),
    dcvStatus!:s(Not Initiated|Validated|Action Required|Expired)}]}]],
  ["report.activity"] = [[{statusCode!:n, reports!:[{id!:n, guid!:s, accessMethod!:s,
    date!:s(ISO_HMS), address!:s, description!:s, action!:{id!:n, actionName!:s}, org:o,
    person:o, admin:{login!:s, fullName!:s, email!:s}, smime:o, ssl:o, notif:o}]}]],
  ["report.empty"] = "{statusCode!:n, reports!:[]}",

  ["task.list"] = "[{taskId!:n, name!:s, status!:s}]",
  ["task.made"] = "{taskId!:n}",
  ["task.net"] = "{" .. SCHEDULE .. ", agent!:s, ranges!:[{address!:s, ports!:s}]}",
  ["task.ad"] = "{" .. SCHEDULE .. ", agent!:s, depth!:n, domainDefinition:s}",
  ["task.azure"] = "{" .. SCHEDULE .. ", azureAccountId:n, resourceGroup:s, keyVault:s}",
  operations = [[{total!:n, data!:[{id!:s, status!:s(in_progress|failed|completed|
  cancelled|
    expired), created!:s(ISO_HMS), modified!:s(ISO_HMS), bucketId!:s, error:s}]}]],
  ["operation.result"] = [[{total!:n, data!:[{operation!:{id!:s, created!:s(ISO_HMS)},
    status!:{tlsVersion!:n, handshakeMs!:n, cipherSuite!:s, nameLookupMs!:n},
    created!:s(ISO_HMS), certificate!:{hash!:s, metadata!:{managedId:s, hidden!:b,
    discoveryTime!:s(ISO_HMS)}, details!:]] .. FOUND .. "}, location!:{type!:s, "
    .. "details!:o}}]}",
  rule = "{name!:s, orgId!:n, certType!:s, filters!:[{filterType!:s, matchType!:s, "
    .. "value!:a}]}",
  ["bucket.list"] = "[{id!:s, name!:s}]",
  bucket = [[{id!:s(36..36), name!:s, assignmentRules!:[n], orgDelegations!:[n],
    authenticationEnabled!:b, clientId:s, clientSecret:s}]],
  ["bucket.certificates"] = "{total!:n, data!:[{hash!:s(64..64), details!:" .. FOUND
    .. "}]}",

  ["admin.list"] = "[{id!:n, type!:s, login!:s, email!:s, forename!:s, surname!:s}]",
  admin = [[{id!:n, type!:s, login!:s, email!:s, forename!:s, surname!:s,
    clientAdminCreator:n, reseted:s, lastPasswordChange:s(ISO), passwordState!:s(ALIVE|
    EXPIRED|NEVER_EXPIRE), passwordExpiryDate:s(ISO), authCert:s, created:s(ISO),
    modified:s(ISO), deleted:s, title:s, relationship:s, phone:s, city:s, state:s,
    country:s, zip:s, locale:s, status!:s, activeState!:s, activeStatus!:s,
    credentials!:[{role!:s, orgId:n}], privileges!:[s], failedAttempts!:n,
    failedDate:s}]],
  ["admin.password"] = "{state!:s(ALIVE|EXPIRED|NEVER_EXPIRE), expirationDate:s(ISO)}",
}

for name, text in pairs(TEXTS) do shapes[name] = shape.parse(text) end

return shapes
